//! Tests of the record that need more than one of its files: format, rows coming in, the ledger, batches.

mod adding;
mod audit;
mod batches;
mod collecting;
mod format;
mod ledger;
mod oracle;
mod packing;
mod rate_limits;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::{
    Create, NewBatch, NewBody, Order, Promise, PromiseFor, Receipt, RunFacts, Seat, Store, Way,
    Writer,
};
use crate::domain::{
    AnswerFormat, Endpoint, Fingerprint, Identity, MessageTemplate, ModelName, NewRow, PromptId,
    PromptSpec, Role, RowId, RunId, SourceFacts, Structured, TokenLimitField, UnixMs,
};
use crate::store::Codec;

/// An empty project in a folder of its own.
fn project(dir: &tempfile::TempDir) -> Store {
    let new = Create {
        path: &dir.path().join("overnight.db"),
        now: UnixMs(1),
        token: "abcdef123456",
        base_url: None,
        max_attempts: 3,
    };
    Store::create(&new, |_| Ok(())).unwrap()
}

/// Takes a store's commits off the disk's mind, where a test is about what they say.
fn unflushed(store: &Store) {
    store.conn.pragma_update(None, "synchronous", "OFF").unwrap();
}

fn facts(columns: &[&str]) -> SourceFacts {
    SourceFacts {
        format: "csv".to_owned(),
        encoding: "UTF-8".to_owned(),
        sha256: [7; 32],
        bytes: 1,
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
    }
}

/// Adds keyed rows `k0`, `k1`, … in one file.
fn add_rows(store: &mut Store, rows: usize) -> Vec<RowId> {
    let mut adding = store.start_add("rows.csv", Some("id"), UnixMs(2)).unwrap();
    for row in 0..rows {
        let (key, cells) = (format!("k{row}"), format!(r#"{{"id":"k{row}"}}"#));
        let line = row as u64 + 2;
        let new = NewRow { line, cells_json: &cells, identity: Identity::Key(&key) };
        adding.row(new).unwrap();
    }
    adding.finish(&facts(&["id"])).unwrap();
    (0..rows).map(|row| store.find_row(&format!("k{row}")).unwrap().unwrap().id).collect()
}

fn add_prompt(store: &mut Store) -> PromptId {
    add_prompt_saying(store, "{{ id }}")
}

/// Adds the next version of the one prompt.
fn add_prompt_saying(store: &mut Store, template: &str) -> PromptId {
    let template = template.to_owned();
    let spec = PromptSpec {
        source: template.clone(),
        messages: vec![MessageTemplate { role: Role::User, template }],
        model: ModelName::parse("simulated/small").unwrap(),
        endpoint: Endpoint::ChatCompletions,
        max_tokens: Some(100),
        max_tokens_limit: Some(400),
        token_limit_field: TokenLimitField::MaxTokens,
        answer: AnswerFormat::Text,
        structured: Structured::Words,
        parameters: serde_json::Map::new(),
    };
    store.add_prompt("main", &spec, UnixMs(3)).unwrap().0.id
}

fn start_run(store: &mut Store) -> RunId {
    let facts = RunFacts {
        started_at: UnixMs(4),
        settings_json: "{}".to_owned(),
        process_id: 1,
        host: "host".to_owned(),
    };
    store.start_run(&facts).unwrap()
}

fn body(text: &str) -> NewBody {
    let packed = Codec::plain().pack(text.as_bytes()).unwrap();
    NewBody { fingerprint: Fingerprint::of(text.as_bytes()), packed }
}

/// A batch of the prompt's model.
fn new_batch(token: &str) -> NewBatch {
    NewBatch {
        token: token.to_owned(),
        model: "simulated/small".to_owned(),
        endpoint: Endpoint::ChatCompletions,
        server: "embedded".to_owned(),
    }
}

/// A promise of a new request in the batch with this token.
fn seat((row, prompt, run): (RowId, PromptId, RunId), token: &str, text: &str) -> Promise {
    let batch = Arc::new(new_batch(token));
    Promise {
        request: PromiseFor::New { row, prompt, body: body(text) },
        run,
        way: Way::Batch(Seat { batch, line_bytes: 100, tokens: 9 }),
        max_tokens: None,
        sent_body: None,
        at: UnixMs(10),
        reuse: true,
        reserved: None,
    }
}

/// Everything on record but what packs it, one line a record.
fn dump(store: &Store) -> Vec<String> {
    let tables = [
        "row",
        "prompt",
        "request",
        "attempt",
        "batch",
        "batch_status",
        "stray_line",
        "queue_limit",
    ];
    let mut lines = Vec::new();
    for table in tables {
        let mut query = store.conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = query.column_count();
        let mut rows = query.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap()));
            lines.push(format!("{table}: {}", values.collect::<Vec<_>>().join(" ")));
        }
    }
    lines
}

/// A writer whose every order waits for its receipt.
struct Clerk {
    writer: Writer,
    receipts: Receiver<Vec<Receipt>>,
}

impl Clerk {
    fn start(store: Store) -> Self {
        let (out, receipts) = channel();
        let writer = Writer::start(store, move |group| out.send(group).unwrap()).unwrap();
        Self { writer, receipts }
    }

    fn order(&self, order: Order) -> Receipt {
        self.writer.send(order);
        let mut group = self.receipts.recv().unwrap();
        assert_eq!(group.len(), 1, "one order, one receipt: {group:?}");
        group.remove(0)
    }

    fn finish(self) -> Store {
        self.writer.finish().unwrap()
    }
}
