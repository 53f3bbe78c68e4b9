//! What is uploaded: one line for each request, and the body that makes a batch of the file.
//!
//! ```text
//!   {"custom_id":"TOKEN-17","method":"POST","url":"/v1/chat/completions","body":THE BODY'S OWN BYTES}
//! ```
//!
//! A batch is recognised by its token wherever it turns up: in the name of its file, in its metadata
//! and in each `custom_id`. Neither blank lines nor a byte order mark are ever written; servers refuse both.

use serde_json::json;

pub use crate::domain::custom_id;
use crate::domain::{AttemptId, Endpoint};

/// Under this name a batch's metadata hold its token.
pub(super) const TOKEN_KEY: &str = "overnight_batch";

/// Returns the attempt of a `custom_id` that is, to the letter, one that [`custom_id`] wrote for this token.
pub fn attempt_of(custom_id: &str, token: &str) -> Option<AttemptId> {
    let number = custom_id.strip_prefix(token)?.strip_prefix('-')?;
    let starts_well = number == "0" || number.starts_with(|c: char| matches!(c, '1'..='9'));
    if !starts_well || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok().map(AttemptId)
}

/// Returns the length of the line that [`write_input_line`] writes, in bytes, its end included.
pub fn input_line_bytes(custom_id: &str, endpoint: Endpoint, body: &[u8]) -> u64 {
    let mut bytes = 0;
    each_piece(&line_head(custom_id, endpoint), body, |piece| bytes += piece.len() as u64);
    bytes
}

/// Appends the line of one request.
///
/// `body` is compact JSON and goes in as it is, but for what some readers take for the end of a line.
pub fn write_input_line(out: &mut Vec<u8>, custom_id: &str, endpoint: Endpoint, body: &[u8]) {
    each_piece(&line_head(custom_id, endpoint), body, |piece| out.extend_from_slice(piece));
}

/// Returns the name that a batch's input file is uploaded under.
pub fn file_name(token: &str) -> String {
    format!("overnight-{token}.jsonl")
}

/// A batch to be created.
#[derive(Clone, Copy, Debug)]
pub struct NewBatch<'a> {
    /// The uploaded file.
    pub input_file_id: &'a str,
    /// Where each of its lines goes.
    pub endpoint: Endpoint,
    /// The completion window, as the provider spells it: `24h`.
    pub window: &'a str,
    /// The batch's own token.
    pub token: &'a str,
}

/// Returns the body of the call that creates a batch.
pub fn create_body(new: &NewBatch<'_>) -> Vec<u8> {
    let body = json!({
        "input_file_id": new.input_file_id,
        "endpoint": path(new.endpoint),
        "completion_window": new.window,
        "metadata": { TOKEN_KEY: new.token },
    });
    body.to_string().into_bytes()
}

/// Returns the endpoint as batches name it; it does not depend on the base URL.
fn path(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions => "/v1/chat/completions",
        Endpoint::Responses => "/v1/responses",
    }
}

fn line_head(custom_id: &str, endpoint: Endpoint) -> String {
    let custom_id = json!(custom_id);
    let path = path(endpoint);
    format!(r#"{{"custom_id":{custom_id},"method":"POST","url":"{path}","body":"#)
}

fn each_piece(head: &str, body: &[u8], mut each: impl FnMut(&[u8])) {
    each_safe_piece(head.as_bytes(), &mut each);
    each_safe_piece(body, &mut each);
    each(b"}\n");
}

/// Cuts JSON into pieces that hold no end of a line, of any kind.
///
/// Outside ASCII there are only strings, so an escape means the same there. Bare line feeds and carriage returns
/// can only stand between values.
fn each_safe_piece(json: &[u8], each: &mut impl FnMut(&[u8])) {
    let mut start = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let (length, instead): (usize, &[u8]) = match (byte, &json[at..]) {
            (b'\n' | b'\r', _) => (1, b" "),
            (0xC2, [_, 0x85, ..]) => (2, br"\u0085"),
            (0xE2, [_, 0x80, 0xA8, ..]) => (3, br"\u2028"),
            (0xE2, [_, 0x80, 0xA9, ..]) => (3, br"\u2029"),
            _ => {
                at += 1;
                continue;
            }
        };
        each(&json[start..at]);
        each(instead);
        at += length;
        start = at;
    }
    each(&json[start..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const TOKEN: &str = "o7f3a9c2e1b4d5f60";

    fn line(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_input_line(&mut out, "t-1", Endpoint::ChatCompletions, body);
        assert_eq!(
            out.len() as u64,
            input_line_bytes("t-1", Endpoint::ChatCompletions, body),
            "{out:?}"
        );
        out
    }

    #[test]
    fn a_line_is_what_the_guide_shows() {
        assert_eq!(
            line(br#"{"model":"gpt-5-mini","messages":[]}"#),
            br#"{"custom_id":"t-1","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-5-mini","messages":[]}}
"#
        );
        let mut out = b"before\n".to_vec();
        write_input_line(&mut out, "t-2", Endpoint::Responses, b"{}");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "before\n{\"custom_id\":\"t-2\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{}}\n"
        );
    }

    #[test]
    fn what_some_readers_take_for_the_end_of_a_line_is_escaped() {
        let got = line("{\"a\":\"x\u{2028}\u{2029}\u{85}\u{2027}é\u{c5}\"}".as_bytes());
        let text = String::from_utf8(got).unwrap();
        assert!(text.contains(r#""body":{"a":"x\u2028\u2029\u0085‧éÅ"}"#), "{text}");
    }

    #[test]
    fn line_ends_between_values_become_blanks() {
        let got = line(b"{\r\n \"a\": 1\n}");
        let text = String::from_utf8(got).unwrap();
        assert!(text.ends_with("\"body\":{   \"a\": 1 }}\n"), "{text}");
    }

    #[test]
    fn a_custom_id_leads_back_to_its_attempt_and_nothing_else_does() {
        for number in [0, 1, 10, i64::MAX] {
            let id = custom_id(TOKEN, AttemptId(number));
            assert!(id.len() <= 64);
            assert_eq!(attempt_of(&id, TOKEN), Some(AttemptId(number)));
            assert_eq!(attempt_of(&id, "other"), None);
            assert_eq!(attempt_of(&id, &TOKEN[..5]), None);
        }
        for tail in [
            "",
            "-",
            "1",
            "-01",
            "-00",
            "-+1",
            "--1",
            "-1 ",
            "- 1",
            "-1x",
            "-1.0",
            "-1e3",
            "-१",
            "-9223372036854775808",
            "-99999999999999999999",
        ] {
            assert_eq!(attempt_of(&format!("{TOKEN}{tail}"), TOKEN), None, "{tail:?}");
        }
        assert_eq!(attempt_of(&format!(" {TOKEN}-1"), TOKEN), None);
        assert_eq!(attempt_of(&format!("{}-1", TOKEN.to_uppercase()), TOKEN), None);
    }

    #[test]
    fn the_token_goes_wherever_a_batch_can_be_found_again() {
        assert_eq!(file_name(TOKEN), "overnight-o7f3a9c2e1b4d5f60.jsonl");
        let body = create_body(&NewBatch {
            input_file_id: "file-1",
            endpoint: Endpoint::Responses,
            window: "24h",
            token: TOKEN,
        });
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"input_file_id":"file-1","endpoint":"/v1/responses","completion_window":"24h","metadata":{"overnight_batch":"o7f3a9c2e1b4d5f60"}}"#
        );
    }

    fn any_text() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(
            &["\u{2028}", "\u{2029}", "\u{85}", "\n", "\r\n", "\\u2028", "\\", "\"", "a", "é"][..],
        );
        prop::collection::vec(odd, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_that_means_the_body(
            key in any_text(),
            texts in prop::collection::vec(any_text(), 0..4),
            other in "\\PC{0,30}",
            is_pretty in any::<bool>(),
        ) {
            let value = json!({ key: texts, "other": other });
            let body = if is_pretty {
                serde_json::to_vec_pretty(&value).unwrap()
            } else {
                serde_json::to_vec(&value).unwrap()
            };
            let got = line(&body);
            let text = std::str::from_utf8(&got).unwrap();
            let ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\u{c}'];
            prop_assert_eq!(text.find(ends), Some(text.len() - 1));
            let read: Value = serde_json::from_str(text).unwrap();
            prop_assert_eq!(&read["body"], &value);
            prop_assert_eq!(&read["custom_id"], "t-1");
            prop_assert_eq!(&read["method"], "POST");
        }

        #[test]
        fn the_length_is_exact_for_any_bytes(
            body in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0xE2), Just(0x80), Just(0xA8), Just(0xC2), Just(0x85), Just(b'\n')],
                0..40,
            ),
            custom_id in "\\PC{0,10}",
        ) {
            let mut out = Vec::new();
            write_input_line(&mut out, &custom_id, Endpoint::Responses, &body);
            prop_assert_eq!(
                out.len() as u64,
                input_line_bytes(&custom_id, Endpoint::Responses, &body)
            );
            prop_assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
        }
    }
}
