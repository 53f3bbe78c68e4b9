//! Replies made beforehand, so that the mock is never what is waited for: only an id is put in when one is asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use serde_json::json;

use crate::words::Words;

/// Chat completions of about 750 bytes and result lines of about 1,900, some thousand different ones.
pub(crate) struct Replies {
    /// What stands before and after the id.
    chats: Vec<(Vec<u8>, Vec<u8>)>,
    /// What stands before the id, between it and the custom id, and after that.
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    next: AtomicU64,
}

const TEXTS: usize = 4096;
const CHAT_BYTES: usize = 750;
const LINE_BYTES: usize = 1_880;
const LINE_HEAD: &[u8] = b"{\"id\":\"batch_req_";
const LINE_ID: &[u8] = b"\",\"custom_id\":\"";
/// Digits of an id.
const DIGITS: usize = 16;

impl Replies {
    /// Makes all of them; `is_json` where the answers are to be JSON objects.
    pub(crate) fn new(is_json: bool) -> Self {
        let mut rng = Rng::with_seed(7);
        let words = (&Words::new(), is_json);
        let chats = (0..TEXTS).map(|n| chat(n, (words, &mut rng))).collect();
        let lines = (0..TEXTS).map(|n| line(n, (words, &mut rng))).collect();
        Self { chats, lines, next: AtomicU64::new(1) }
    }

    /// Returns a new number.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a chat completion with this number as its id.
    pub(crate) fn chat(&self, number: u64) -> Bytes {
        let (head, tail) = &self.chats[number as usize % TEXTS];
        let mut body = BytesMut::with_capacity(head.len() + DIGITS + tail.len());
        body.put_slice(head);
        put_digits(&mut body, number);
        body.put_slice(tail);
        body.freeze()
    }

    /// Returns how long the result line of a custom id is that stands at this place of its file.
    pub(crate) fn line_bytes(&self, at: usize, custom_id: &[u8]) -> usize {
        let (middle, tail) = &self.lines[at % TEXTS];
        LINE_HEAD.len() + LINE_ID.len() + 2 * DIGITS + custom_id.len() + middle.len() + tail.len()
    }

    /// Appends that line.
    pub(crate) fn put_line(&self, out: &mut BytesMut, (at, custom_id): (usize, &[u8])) {
        let (middle, tail) = &self.lines[at % TEXTS];
        out.put_slice(LINE_HEAD);
        put_digits(out, at as u64);
        out.put_slice(LINE_ID);
        out.put_slice(custom_id);
        out.put_slice(middle);
        put_digits(out, at as u64);
        out.put_slice(tail);
    }
}

fn put_digits(out: &mut BytesMut, mut number: u64) {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
    out.put_slice(&digits);
}

const MARK: &str = "@@";

/// Returns a completion that is `bytes` long, with a mark where its id goes.
fn completion(
    (n, bytes): (usize, usize),
    ((words, is_json), rng): ((&Words, bool), &mut Rng),
) -> String {
    let made = |text: &str| {
        json!({
            "id": format!("chatcmpl-{MARK}"),
            "object": "chat.completion",
            "created": 1_795_500_000 + n,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": null, "annotations": []},
                "logprobs": null,
                "finish_reason": "stop"
            }],
            "usage": {
                "prompt_tokens": 180 + n % 100,
                "completion_tokens": 30 + n % 40,
                "total_tokens": 210 + n % 100 + n % 40,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
            },
            "service_tier": "default",
            "system_fingerprint": "fp_3f1a9c2e1b"
        })
        .to_string()
    };
    let room = bytes.saturating_sub(made("").len());
    let mut text = String::new();
    words.fill(&mut text, room.saturating_sub(8), (n % 3 == 0, rng));
    match is_json {
        true => made(&json!({"label": "mixed", "reason": text}).to_string()),
        false => made(&text),
    }
}

fn chat(n: usize, from: ((&Words, bool), &mut Rng)) -> (Vec<u8>, Vec<u8>) {
    let whole = completion((n, CHAT_BYTES), from);
    let (head, tail) = whole.split_once(MARK).unwrap();
    (head.into(), tail.into())
}

fn line(n: usize, from: ((&Words, bool), &mut Rng)) -> (Vec<u8>, Vec<u8>) {
    let body = completion((n, LINE_BYTES - 190), from);
    let (head, tail) = body.split_once(MARK).unwrap();
    let middle = format!(
        "\",\"response\":{{\"status_code\":200,\"request_id\":\"req_{n:032x}\",\"body\":{head}"
    );
    (middle.into_bytes(), format!("{tail}}},\"error\":null}}\n").into_bytes())
}
