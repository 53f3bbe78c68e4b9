//! Small projects for tests, made through the store alone: no network, no clock.
//!
//! What an engine would order of the writer is ordered here by hand, so that a test can put a
//! project into any state that a run can leave behind.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Context;
use super::out::{Out, Voice};
use super::settings::Settings;
use crate::domain::{
    AnswerFormat, AttemptId, BatchCounts, BatchId, Endpoint, FailureClass, Fingerprint, Identity,
    MessageTemplate, ModelName, NanoUsd, NewRow, Outcome, PromptSpec, RequestId, Role, RunId,
    SourceFacts, Structured, TokenLimitField, UnixMs, Usage,
};
use crate::machine::batch::BatchMove;
use crate::store::{
    AddReport, BatchChange, Codec, Create, LineKind, NewBatch, NewBody, Order, Promise, PromiseFor,
    Promised, PromptRecord, Receipt, ResultFile, ResultLine, RunFacts, Seat, SeenBatch, Settlement,
    Store, Way, Writer,
};

/// When everything in a fixture begins: 2026-01-01T00:00:00Z.
pub(crate) const START: UnixMs = UnixMs(1_767_225_600_000);

/// A project in a folder that removes itself.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    /// Only the writer takes it out, for as long as an order lasts.
    store: Option<Store>,
    run: Option<RunId>,
    now: UnixMs,
}

/// An attempt that was promised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) request: RequestId,
    pub(crate) attempt: AttemptId,
}

/// What is promised: a row, a prompt, and what is sent.
pub(crate) struct Call<'a> {
    pub(crate) key: &'a str,
    pub(crate) prompt: &'a str,
    pub(crate) body: String,
    pub(crate) sent_body: Option<&'a str>,
    pub(crate) max_tokens: Option<u32>,
}

impl<'a> Call<'a> {
    /// A call for a row, with a body of its own.
    pub(crate) fn new(key: &'a str, prompt: &'a str) -> Self {
        let body = format!(r#"{{"model":"small","input":"{prompt} {key}"}}"#);
        Self { key, prompt, body, sent_body: None, max_tokens: Some(100) }
    }
}

impl Fixture {
    /// Makes an empty project.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("overnight.db");
        let new = Create {
            path: &path,
            now: START,
            token: "abcdef123456",
            base_url: None,
            max_attempts: 3,
        };
        let store = Store::create(&new, |_| Ok(())).unwrap();
        Self { dir, store: Some(store), run: None, now: START }
    }

    /// Makes a project with rows keyed `r1`, `r2`, … from `reviews.csv` and one prompt, `label`.
    pub(crate) fn with_rows(rows: u64) -> Self {
        let mut fixture = Self::empty();
        let keys: Vec<String> = (1..=rows).map(|number| format!("r{number}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        fixture.add("reviews.csv", &keys);
        fixture.prompt("label", "Label this: {{ text }}");
        fixture
    }

    /// The project's file.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("overnight.db")
    }

    /// The open project.
    pub(crate) fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    /// What a command is handed.
    pub(crate) fn context(&self) -> Context {
        Context {
            project: self.path(),
            out: Out::new(Voice { is_quiet: true, is_json: false }),
            settings: Settings::default(),
        }
    }

    /// Adds rows with these keys, each with a `text`.
    pub(crate) fn add(&mut self, path: &str, keys: &[&str]) -> AddReport {
        let now = self.tick();
        let mut adding = self.store().start_add(path, Some("id"), now).unwrap();
        for (index, key) in keys.iter().enumerate() {
            let cells = serde_json::json!({ "id": key, "text": format!("text of {key}") });
            let line = index as u64 + 2;
            let row = NewRow { line, cells_json: &cells.to_string(), identity: Identity::Key(key) };
            adding.row(row).unwrap();
        }
        let facts = SourceFacts {
            format: "csv".to_owned(),
            encoding: "UTF-8".to_owned(),
            sha256: Sha256::digest(path).into(),
            bytes: 0,
            columns: vec!["id".to_owned(), "text".to_owned()],
        };
        adding.finish(&facts).unwrap()
    }

    /// Adds a prompt, or its next version.
    pub(crate) fn prompt(&mut self, name: &str, template: &str) -> PromptRecord {
        self.prompt_for("simulated/small", name, template)
    }

    /// Adds a prompt for a model, or its next version.
    pub(crate) fn prompt_for(&mut self, model: &str, name: &str, template: &str) -> PromptRecord {
        let message = MessageTemplate { role: Role::User, template: template.to_owned() };
        let spec = PromptSpec {
            source: template.to_owned(),
            messages: vec![message],
            model: ModelName::parse(model).unwrap(),
            endpoint: Endpoint::ChatCompletions,
            max_tokens: Some(100),
            max_tokens_limit: Some(400),
            token_limit_field: TokenLimitField::MaxCompletionTokens,
            answer: AnswerFormat::Text,
            structured: Structured::Words,
            parameters: serde_json::Map::new(),
        };
        let now = self.tick();
        self.store().add_prompt(name, &spec, now).unwrap().0
    }

    /// Starts a run, by process 4242 on `night-host`.
    pub(crate) fn start_run(&mut self) -> RunId {
        let facts = RunFacts {
            started_at: self.tick(),
            settings_json: "{}".to_owned(),
            process_id: 4242,
            host: "night-host".to_owned(),
        };
        let run = self.store().start_run(&facts).unwrap();
        self.run = Some(run);
        run
    }

    /// Ends the run.
    pub(crate) fn end_run(&mut self, ended: &str, error: Option<&str>) {
        let (run, now) = (self.run.unwrap(), self.tick());
        self.store().end_run(run, now, ended, error).unwrap();
    }

    /// Promises a call that must be made.
    pub(crate) fn send(&mut self, call: &Call<'_>) -> Sent {
        match self.promise(call) {
            Promised::Sent { request, attempt, .. } => Sent { request, attempt },
            other => panic!("it was not to be sent: {other:?}"),
        }
    }

    /// Promises a call, starting a run where none was.
    pub(crate) fn promise(&mut self, call: &Call<'_>) -> Promised {
        self.promise_by(call, Way::Realtime)
    }

    fn promise_by(&mut self, call: &Call<'_>, way: Way) -> Promised {
        let run = self.run.unwrap_or_else(|| self.start_run());
        let store = self.store();
        let row = store.find_row(call.key).unwrap().unwrap().id;
        let prompts = store.live_prompts().unwrap();
        let prompt = prompts.iter().find(|prompt| prompt.name == call.prompt).unwrap().id;
        let pack = |text: &str| Codec::plain().pack(text.as_bytes()).unwrap();
        let body = NewBody {
            fingerprint: Fingerprint::of(call.body.as_bytes()),
            packed: pack(&call.body),
        };
        let request = match store.trail(row, prompt).unwrap() {
            Some(made) => PromiseFor::Existing { request: made.id, body },
            None => PromiseFor::New { row, prompt, body },
        };
        let promise = Promise {
            request,
            run,
            way,
            max_tokens: call.max_tokens,
            sent_body: call.sent_body.map(pack),
            at: self.tick(),
            reuse: true,
            reserved: None,
        };
        match self.order(Order::Promise(1, Box::new(promise))) {
            Receipt::Promised(1, promised) => promised,
            other => panic!("no promise: {other:?}"),
        }
    }

    /// Settles a call with an answer that cost 1,000 nano-USD.
    pub(crate) fn answer(&mut self, sent: Sent, answer: &str) {
        let settlement = Settlement {
            answer: Some(answer.to_owned()),
            finish_reason: Some("stop".to_owned()),
            ..self.settlement(sent, Outcome::Answered)
        };
        self.settle(settlement);
    }

    /// Settles a call whose reply was cut.
    pub(crate) fn cut(&mut self, sent: Sent) {
        let settlement = Settlement {
            finish_reason: Some("length".to_owned()),
            ..self.settlement(sent, Outcome::Truncated)
        };
        self.settle(settlement);
    }

    /// Settles a call that failed, with no reply.
    pub(crate) fn fail(&mut self, sent: Sent, class: FailureClass, error: &str) {
        let settlement = Settlement {
            error: Some(error.to_owned()),
            usage: None,
            cost: None,
            reply: None,
            ..self.settlement(sent, Outcome::Failed(class))
        };
        self.settle(settlement);
    }

    /// A settlement with a reply, to change before it is handed to [`Fixture::settle`].
    pub(crate) fn settlement(&mut self, sent: Sent, outcome: Outcome) -> Settlement {
        let reply = format!(r#"{{"id":"chatcmpl-{}"}}"#, sent.attempt);
        Settlement {
            attempt: sent.attempt,
            request: sent.request,
            outcome,
            at: self.tick(),
            answer: None,
            error: None,
            status_code: Some(200),
            provider_request_id: Some(format!("req_{}", sent.attempt)),
            served_model: Some("small-2026".to_owned()),
            finish_reason: None,
            usage: Some(Usage { input: 10, cached: 4, cache_write: 3, output: 5, reasoning: 2 }),
            cost: Some(NanoUsd(1000)),
            reply: Some(Codec::plain().pack(reply.as_bytes()).unwrap()),
        }
    }

    /// Plans a batch called `token`, with a request of prompt `label` for each of these rows.
    pub(crate) fn batch(&mut self, token: &str, keys: &[&str]) -> (BatchId, Vec<Sent>) {
        let new = Arc::new(NewBatch {
            token: token.to_owned(),
            model: "simulated/small".to_owned(),
            endpoint: Endpoint::ChatCompletions,
            server: "embedded".to_owned(),
        });
        let mut all = Vec::new();
        for key in keys {
            let seat = Seat { batch: Arc::clone(&new), line_bytes: 100, tokens: 10 };
            match self.promise_by(&Call::new(key, "label"), Way::Batch(seat)) {
                Promised::Sent { request, attempt, .. } => all.push(Sent { request, attempt }),
                other => panic!("it has no place: {other:?}"),
            }
        }
        let last = self.store().batches().unwrap().pop().unwrap();
        assert_eq!(last.new, *new);
        (last.id, all)
    }

    /// Remembers how many tokens a server lets wait for a model.
    pub(crate) fn remember_queue(&mut self, (server, model): (&str, &str), tokens: u64) {
        let (of, at) = ((server.to_owned(), model.to_owned()), self.tick());
        self.order(Order::QueueLimit { ticket: 1, of, tokens, at });
    }

    /// Moves a batch, with what was learned by it.
    pub(crate) fn move_batch(
        &mut self,
        batch: BatchId,
        event: BatchMove,
        learned: impl FnOnce(&mut BatchChange),
    ) {
        let mut change = BatchChange::bare(batch, event, self.tick());
        learned(&mut change);
        match self.order(Order::ChangeBatch(1, Box::new(change))) {
            Receipt::BatchChanged(1, _) => {}
            other => panic!("not moved: {other:?}"),
        }
    }

    /// Brings a batch to the provider as `batch_N`, with a window of 24 hours from the fixture's start.
    pub(crate) fn submit(&mut self, batch: BatchId) {
        self.move_batch(batch, BatchMove::Upload, |_| ());
        self.move_batch(batch, BatchMove::Uploaded, |change| {
            change.input_file_id = Some(format!("file-{batch}"));
        });
        self.move_batch(batch, BatchMove::Create, |_| ());
        self.look(batch, BatchMove::Created, None);
    }

    /// Sees a batch as the provider tells of it, with so many requests done and failed.
    pub(crate) fn look(&mut self, batch: BatchId, event: BatchMove, counts: Option<(u64, u64)>) {
        let counts = counts.map(|(completed, failed)| BatchCounts { total: 0, completed, failed });
        self.move_batch(batch, event, |change| {
            change.seen = Some(SeenBatch {
                provider_id: format!("batch_{batch}"),
                output_file_id: counts.map(|_| format!("file-{batch}-out")),
                error_file_id: counts.map(|_| format!("file-{batch}-err")),
                expires_at: Some(START.plus(Duration::from_hours(24))),
                counts,
                reply: b"{}".to_vec(),
            });
        });
    }

    /// Reads lines of a batch's output file, and is done with it: what has no line is missing.
    pub(crate) fn collect(&mut self, batch: BatchId, lines: Vec<LineKind>) {
        self.move_batch(batch, BatchMove::Collect, |_| ());
        let lines = lines.into_iter().zip(1..).map(|(kind, number)| ResultLine {
            file: ResultFile::Output,
            number,
            kind,
        });
        let (lines, at) = (Arc::new(lines.collect()), self.tick());
        self.order(Order::Lines { ticket: 1, batch, lines, at });
        let class = FailureClass::MissingFromBatch;
        let error = "the batch ended with no line for this request".to_owned();
        self.order(Order::Missing { ticket: 1, batch, class, error, at });
        self.move_batch(batch, BatchMove::Collected, |_| ());
    }

    /// Puts a settlement on record.
    pub(crate) fn settle(&mut self, settlement: Settlement) {
        match self.order(Order::Settle(1, Box::new(settlement))) {
            Receipt::Settled(1, _) => {}
            other => panic!("not settled: {other:?}"),
        }
    }

    /// Moves the time on by a second.
    fn tick(&mut self) -> UnixMs {
        self.now = UnixMs(self.now.0 + 1000);
        self.now
    }

    fn order(&mut self, order: Order) -> Receipt {
        let receipts = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&receipts);
        let store = self.store.take().unwrap();
        let writer = Writer::start(store, move |group| kept.lock().unwrap().extend(group)).unwrap();
        writer.send(order);
        self.store = writer.finish();
        receipts.lock().unwrap().pop().unwrap()
    }
}
