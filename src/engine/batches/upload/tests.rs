//! The size of an input file that stands on record, against the bytes that are sent.

use std::sync::mpsc::channel as receipts;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    AnswerFormat, Endpoint, Fingerprint, Identity, MessageTemplate, ModelName, NewRow, PromptSpec,
    Role, SourceFacts, Structured, TokenLimitField, UnixMs,
};
use crate::provider::batch::input_line_bytes;
use crate::store::{
    Codec, Create, NewBody, Order, Promise, PromiseFor, Receipt, RunFacts, Seat, Way, Writer,
};

fn new_batch(endpoint: Endpoint) -> Arc<NewBatch> {
    Arc::new(NewBatch {
        token: "abcdef-7".to_owned(),
        model: "openai/m".to_owned(),
        endpoint,
        server: "https://provider.test/v1".to_owned(),
    })
}

fn spec(endpoint: Endpoint) -> PromptSpec {
    let template = "{{ id }}".to_owned();
    PromptSpec {
        source: template.clone(),
        messages: vec![MessageTemplate { role: Role::User, template }],
        model: ModelName::parse("openai/m").unwrap(),
        endpoint,
        max_tokens: None,
        max_tokens_limit: None,
        token_limit_field: TokenLimitField::MaxTokens,
        answer: AnswerFormat::Text,
        structured: Structured::Words,
        parameters: serde_json::Map::new(),
    }
}

/// A project in which each body has a place in the one batch, told of its size as a run tells it. A body that is
/// not the request's own stands beside it.
fn filled(
    dir: &tempfile::TempDir,
    batch: &Arc<NewBatch>,
    bodies: &[(String, Option<String>)],
) -> Store {
    let path = dir.path().join("overnight.db");
    let new = Create {
        path: &path,
        now: UnixMs(1),
        token: "abcdef123456",
        base_url: None,
        max_attempts: 3,
    };
    let mut store = Store::create(&new, |_| Ok(())).unwrap();
    let mut adding = store.start_add("rows.csv", Some("id"), UnixMs(2)).unwrap();
    let keys: Vec<String> = (0..bodies.len()).map(|row| format!("k{row}")).collect();
    for key in &keys {
        adding.row(NewRow { line: 2, cells_json: "{}", identity: Identity::Key(key) }).unwrap();
    }
    let facts = SourceFacts {
        format: "csv".to_owned(),
        encoding: "UTF-8".to_owned(),
        sha256: [7; 32],
        bytes: 1,
        columns: vec!["id".to_owned()],
    };
    adding.finish(&facts).unwrap();
    let prompt = store.add_prompt("main", &spec(batch.endpoint), UnixMs(3)).unwrap().0.id;
    let (settings_json, host) = ("{}".to_owned(), String::new());
    let run = RunFacts { started_at: UnixMs(4), settings_json, process_id: 1, host };
    let run = store.start_run(&run).unwrap();
    let rows: Vec<_> = keys.iter().map(|key| store.find_row(key).unwrap().unwrap().id).collect();
    let (out, came) = receipts();
    let writer = Writer::start(store, move |group| out.send(group).unwrap()).unwrap();
    for (row, (own, sent)) in rows.into_iter().zip(bodies) {
        let pack = |body: &str| Codec::plain().pack(body.as_bytes()).unwrap();
        let body = NewBody { fingerprint: Fingerprint::of(own.as_bytes()), packed: pack(own) };
        let as_sent = sent.as_ref().unwrap_or(own).as_bytes();
        let line_bytes = input_line_bytes("", batch.endpoint, as_sent);
        let promise = Promise {
            request: PromiseFor::New { row, prompt, body },
            run,
            way: Way::Batch(Seat { batch: Arc::clone(batch), line_bytes, tokens: 1 }),
            max_tokens: None,
            sent_body: sent.as_deref().map(pack),
            at: UnixMs(5),
            reuse: false,
            reserved: None,
        };
        writer.send(Order::Promise(1, Box::new(promise)));
    }
    let store = writer.finish().unwrap();
    let receipts: Vec<Receipt> = came.iter().flatten().collect();
    assert!(
        receipts.iter().all(|receipt| matches!(receipt, Receipt::Promised(..))),
        "{receipts:?}"
    );
    store
}

/// Reads the parts of a file as a connection takes them.
fn sent(store: Store, batch: Arc<NewBatch>, bytes: u64) -> (Vec<u8>, bool, Result<(), String>) {
    let (parts, mut stream) = channel(AHEAD);
    let reading = Reading { batch: BatchId(1), new: batch, bytes, hands: Hands::Threads };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let reading = runtime.spawn(reading.hand_over(store, parts));
    let (mut all, mut is_broken) = (Vec::new(), false);
    while let Some(part) = stream.blocking_recv() {
        match part {
            Ok(part) => all.extend_from_slice(&part),
            Err(_) => is_broken = true,
        }
    }
    (all, is_broken, runtime.block_on(reading).unwrap())
}

/// A compact JSON object with what is hard to keep on a line.
fn bodies() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let text = || "[a-z\"\\\\\n\r\u{85}\u{2028}\u{2029}\u{1f600}훌]{0,60}";
    let json = |text: String| serde_json::json!({ "content": text }).to_string();
    let body =
        (text(), prop::option::of(text())).prop_map(move |(own, sent)| (json(own), sent.map(json)));
    prop::collection::vec(body, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_size_on_record_is_the_size_of_what_is_sent(
        bodies in bodies(),
        endpoint in prop::sample::select(vec![Endpoint::ChatCompletions, Endpoint::Responses]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let batch = new_batch(endpoint);
        let store = filled(&dir, &batch, &bodies);
        let record = store.batches().unwrap().remove(0);
        let mut whole = Vec::new();
        for (index, (own, sent)) in bodies.iter().enumerate() {
            let id = custom_id(&batch.token, AttemptId(index as i64 + 1));
            write_input_line(&mut whole, &id, endpoint, sent.as_ref().unwrap_or(own).as_bytes());
        }
        prop_assert_eq!(record.input_bytes, whole.len() as u64);
        prop_assert_eq!(record.requests, bodies.len() as u64);
        let (all, is_broken, read) = sent(store, batch, record.input_bytes);
        prop_assert!(read.is_ok() && !is_broken);
        prop_assert!(all == whole);
        prop_assert_eq!(all.split(|byte| *byte == b'\n').count(), bodies.len() + 1);
    }
}

#[test]
fn a_file_of_another_size_than_the_record_says_is_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    let batch = new_batch(Endpoint::ChatCompletions);
    let store = filled(&dir, &batch, &[("{}".to_owned(), None)]);
    let bytes = store.batches().unwrap()[0].input_bytes;
    let (all, is_broken, read) = sent(store, batch, bytes + 1);
    assert!(all.is_empty() && is_broken);
    let words =
        format!("the input file of batch 1 has {bytes} bytes where {} are on record", bytes + 1);
    assert_eq!(read, Err(words));
}
