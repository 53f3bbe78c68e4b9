//! What was put on record comes back byte for byte.

use super::*;
use crate::domain::Outcome;
use crate::store::{Packed, Promise, PromiseFor, Promised, Settlement, Way};

/// Puts one reply and one deviating body through the writer and reads the trail.
fn through_the_record(sent: &[u8], reply: &[u8], pack: impl Fn(&[u8]) -> Packed) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let rows = add_rows(&mut store, 1);
    let prompt = add_prompt(&mut store);
    let run = start_run(&mut store);
    let id = store.add_dictionary(prompt, "reply", DICTIONARY).unwrap();
    assert_eq!(id.0, 1, "the packers of these tests count on it");
    let clerk = Clerk::start(store);
    let new = NewBody { fingerprint: Fingerprint::of(sent), packed: pack(sent) };
    let promise = Promise {
        request: PromiseFor::New { row: rows[0], prompt, body: new },
        run,
        way: Way::Realtime,
        max_tokens: None,
        sent_body: Some(pack(sent)),
        at: UnixMs(5),
        reuse: true,
        reserved: None,
    };
    let receipt = clerk.order(Order::Promise(1, Box::new(promise)));
    let Receipt::Promised(1, Promised::Sent { request, attempt, .. }) = receipt else {
        panic!("{receipt:?}");
    };
    let settlement = Settlement {
        attempt,
        request,
        outcome: Outcome::Truncated,
        at: UnixMs(6),
        answer: None,
        error: None,
        status_code: Some(200),
        provider_request_id: None,
        served_model: None,
        finish_reason: None,
        usage: None,
        cost: None,
        reply: Some(pack(reply)),
    };
    let receipt = clerk.order(Order::Settle(2, Box::new(settlement)));
    assert!(matches!(receipt, Receipt::Settled(2, _)), "{receipt:?}");
    let trail = clerk.finish().trail(rows[0], prompt).unwrap().unwrap();
    assert!(trail.body.as_deref() == Some(sent), "the body");
    assert!(trail.attempts[0].sent_body.as_deref() == Some(sent), "the body of the attempt");
    assert!(trail.attempts[0].reply.as_deref() == Some(reply), "the reply");
}

const DICTIONARY: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","choices":[]}"#;

#[test]
fn bodies_and_replies_come_back_byte_for_byte() {
    let noise: Vec<u8> = (0u32..5_000_000).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let repeated = b"{\"a\":1}".repeat(800_000);
    let not_text = [0xff, 0x00, 0xfe, b'{', 0x28, 0xb5, 0x2f, 0xfd];
    let with_dictionary = Codec::with(crate::domain::DictionaryId(1), DICTIONARY);
    for bytes in [b"".as_slice(), b"\0", &not_text, &noise, &repeated, DICTIONARY] {
        through_the_record(bytes, bytes, |plain| Codec::plain().pack(plain).unwrap());
        through_the_record(bytes, bytes, |plain| with_dictionary.pack(plain).unwrap());
    }
}

#[test]
fn a_first_reply_that_is_too_long_to_be_a_dictionary_serves_with_its_beginning() {
    let long = DICTIONARY.repeat(10_000);
    let beginning = Codec::dictionary_of(&long);
    assert!(beginning.len() <= 64 * 1024 && long.starts_with(beginning));
    let dir = tempfile::tempdir().unwrap();
    let mut store = project(&dir);
    let prompt = add_prompt(&mut store);
    let id = store.add_dictionary(prompt, "reply", beginning).unwrap();
    let packed = Codec::with(id, beginning).pack(&long).unwrap();
    let again = store.codec(prompt, "reply").unwrap().unwrap().pack(&long).unwrap();
    assert_eq!(packed, again, "a later run packs with the same dictionary");
    assert!(store.codec(prompt, "body").unwrap().is_none());
}
