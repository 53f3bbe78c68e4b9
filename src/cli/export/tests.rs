//! Exports of real projects.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::out::{Out, Voice};
use super::super::settings::Settings;
use super::*;
use crate::domain::{
    Endpoint, FailureClass, Fingerprint, Identity, MessageTemplate, ModelName, NanoUsd, NewRow,
    Outcome, PromptSpec, Role, RowId, RunId, SourceFacts, State, Structured, TokenLimitField,
    UnixMs, Usage,
};

use crate::store::{
    Codec, Create, NewBody, Order, Promise, PromiseFor, Promised, Receipt, RunFacts, RunLock,
    Settlement, Way, Writer,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// A project in a folder of its own.
struct Project {
    dir: TempDir,
    store: Option<Store>,
    run: RunId,
}

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let new = Create {
            path: &dir.path().join("overnight.db"),
            now: UnixMs(0),
            token: "abcdefghijkl",
            base_url: None,
            max_attempts: 5,
        };
        let mut store = Store::create(&new, |_| Ok(())).unwrap();
        let run = store.start_run(&RunFacts {
            started_at: UnixMs(0),
            settings_json: "{}".into(),
            process_id: 1,
            host: "here".into(),
        });
        Self { dir, run: run.unwrap(), store: Some(store) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn add(&mut self, columns: &[&str], rows: &[&str]) {
        let source = self.path("rows.csv");
        fs::write(&source, "the rows as they came").unwrap();
        let mut adding = self.store().start_add(source.to_str().unwrap(), None, UnixMs(0)).unwrap();
        for (line, cells) in (2..).zip(rows) {
            let identity = Identity::Content(Fingerprint::of(cells.as_bytes()).0);
            adding.row(NewRow { line, cells_json: cells, identity }).unwrap();
        }
        let facts = SourceFacts {
            format: "csv".into(),
            encoding: "UTF-8".into(),
            sha256: [0; 32],
            bytes: 1,
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
        };
        adding.finish(&facts).unwrap();
    }

    fn prompt(&mut self, name: &str, answer: AnswerFormat) -> PromptId {
        let spec = PromptSpec {
            source: format!("{answer:?}"),
            messages: vec![MessageTemplate { role: Role::User, template: "hello".into() }],
            model: ModelName::parse("gpt-5-mini").unwrap(),
            endpoint: Endpoint::Responses,
            max_tokens: None,
            max_tokens_limit: None,
            token_limit_field: TokenLimitField::MaxOutputTokens,
            answer,
            structured: Structured::Schema,
            parameters: Map::new(),
        };
        self.store().add_prompt(name, &spec, UnixMs(0)).unwrap().0.id
    }

    /// Promises a request; settles it where there is an outcome.
    fn ask(&mut self, row: i64, prompt: PromptId, ended: Option<(Outcome, &str)>) {
        let codec = Codec::plain();
        let bytes = format!("{row} {prompt}").into_bytes();
        let promise = Promise {
            request: PromiseFor::New {
                row: RowId(row),
                prompt,
                body: NewBody {
                    fingerprint: Fingerprint::of(&bytes),
                    packed: codec.pack(&bytes).unwrap(),
                },
            },
            run: self.run,
            way: Way::Realtime,
            max_tokens: None,
            sent_body: None,
            at: UnixMs(1000),
            reuse: false,
            reserved: None,
        };
        let promised = self.order(Order::Promise(1, Box::new(promise)));
        let Receipt::Promised(1, Promised::Sent { request, attempt, .. }) = promised else {
            panic!("{promised:?}")
        };
        let Some((outcome, answer)) = ended else { return };
        let settlement = Settlement {
            attempt,
            request,
            outcome,
            at: UnixMs(2000),
            answer: (outcome == Outcome::Answered).then(|| answer.to_owned()),
            error: matches!(outcome, Outcome::Failed(_)).then(|| "it was not to be".to_owned()),
            status_code: Some(200),
            provider_request_id: Some("req_1".into()),
            served_model: None,
            finish_reason: Some("stop".into()),
            usage: Some(Usage { input: 10, output: 2, ..Usage::default() }),
            cost: Some(NanoUsd(1500)),
            reply: None,
        };
        let settled = self.order(Order::Settle(2, Box::new(settlement)));
        assert!(matches!(settled, Receipt::Settled(2, _)), "{settled:?}");
    }

    fn order(&mut self, order: Order) -> Receipt {
        let (send, receive) = std::sync::mpsc::channel();
        let store = self.store.take().unwrap();
        let writer = Writer::start(store, move |receipts| {
            for receipt in receipts {
                send.send(receipt).unwrap();
            }
        })
        .unwrap();
        writer.send(order);
        self.store = writer.finish();
        receive.recv().unwrap()
    }

    fn export(&self, args: &[&str]) -> Result<Exit, Failure> {
        let args = Line::try_parse_from(["export"].iter().chain(args)).unwrap().args;
        let voice = Voice { is_quiet: true, is_json: false };
        let project = self.path("overnight.db");
        run(args, &Context { project, out: Out::new(voice), settings: Settings::default() })
    }

    /// Exports to a file and returns what is in it.
    fn exported(&self, name: &str, args: &[&str]) -> String {
        let path = self.path(name);
        let file = [path.to_str().unwrap()];
        let exit = self.export(&[&file, args].concat()).unwrap();
        assert_eq!(exit, Exit::Done);
        fs::read_to_string(path).unwrap()
    }

    fn refused(&self, args: &[&str]) -> (Exit, String) {
        let failure = self.export(args).unwrap_err();
        (failure.exit, failure.words().unwrap())
    }
}

/// Four rows and a prompt; the first is answered, the others are not, each for its own reason.
fn usual() -> Project {
    let mut project = Project::new();
    project.add(
        &["id", "answer"],
        &[
            r#"{"id":"01","answer":"x"}"#,
            r#"{"id":"02","answer":"y"}"#,
            r#"{"id":"03","answer":""}"#,
            r#"{"id":"04","answer":null}"#,
        ],
    );
    let main = project.prompt("main", AnswerFormat::Text);
    project.ask(1, main, Some((Outcome::Answered, "yes, \"so\"")));
    project.ask(2, main, Some((Outcome::Failed(FailureClass::Refused), "")));
    project.ask(3, main, None);
    project
}

#[test]
fn every_row_is_there_with_its_answer_or_its_state() {
    let project = usual();
    let expected = "id,answer,answer_2,state\n01,x,\"yes, \"\"so\"\"\",answered\n02,y,,failed\n\
                    03,,,in_doubt\n04,,,pending\n";
    assert_eq!(project.exported("a.csv", &[]), expected);
    assert_eq!(project.exported("a.csv", &[]), expected, "an export can be made again");
    assert_eq!(project.exported("A.CSV", &["--bom"]), format!("\u{feff}{expected}"));
    let lines = project.exported("a.ndjson", &[]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        json!({"id": "01", "answer": "x", "answer_2": "yes, \"so\"", "state": "answered"})
    );
    let left: Vec<_> = fs::read_dir(project.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".overnight-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn while_a_run_is_on_its_promises_are_in_flight() {
    let project = usual();
    let lock = RunLock::take(&project.path("overnight.db")).unwrap();
    assert!(project.exported("a.csv", &[]).contains("03,,,in_flight\n"));
    drop(lock);
    assert!(project.exported("a.csv", &[]).contains("03,,,in_doubt\n"));
}

#[test]
fn only_what_is_asked_for_is_written() {
    let project = usual();
    let ids = |only: &str| {
        let text = project.exported("a.csv", &["--only", only]);
        text.lines().skip(1).map(|line| line[..2].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("answered"), "01");
    assert_eq!(ids("failed,in_doubt"), "02 03");
    assert_eq!(ids("unanswered"), "02 03 04");
    assert_eq!(ids("truncated"), "");
}

#[test]
fn details_are_those_of_the_record() {
    let project = usual();
    let text = project.exported("a.jsonl", &["--details"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let print = Fingerprint::of(b"1 1").to_string();
    for (key, value) in [
        ("model", json!("openai/gpt-5-mini")),
        ("prompt", json!("main")),
        ("prompt_version", json!(1)),
        ("route", json!("realtime")),
        ("batch_id", Value::Null),
        ("provider_request_id", json!("req_1")),
        ("input_tokens", json!(10)),
        ("cost_usd", json!(0.000_001_5)),
        ("attempts", json!(1)),
        ("error_class", Value::Null),
        ("answered_at", json!("1970-01-01T00:00:02.000Z")),
        ("fingerprint", json!(print)),
    ] {
        assert_eq!(lines[0][key], value, "{key}");
    }
    assert_eq!(lines[1]["error_class"], json!("refused"));
    assert_eq!(lines[1]["error"], json!("it was not to be"));
    assert_eq!(lines[1]["answered_at"], Value::Null);
    assert_eq!(lines[3]["fingerprint"], Value::Null);
    assert_eq!(lines[3]["attempts"], json!(0));
}

#[test]
fn prompts_stand_beside_each_other_or_alone() {
    let mut project = usual();
    let schema = json!({"type": "object", "properties": {"who": {}, "when": {}}});
    let facts = project.prompt("facts", AnswerFormat::Schema(schema));
    project.ask(4, facts, Some((Outcome::Answered, r#"{"when":[1.0],"who":"Kim"}"#)));
    let header = |args: &[&str]| project.exported("a.csv", args).lines().next().unwrap().to_owned();
    assert_eq!(
        header(&[]),
        "id,answer,main.answer,main.state,facts.answer.who,facts.answer.when,facts.state"
    );
    assert_eq!(header(&["--long"]), "id,answer,prompt,answer_2,state");
    let alone = project.exported("a.csv", &["--prompt", "facts", "--only", "answered"]);
    assert_eq!(alone, "id,answer,answer.who,answer.when,state\n04,,Kim,[1.0],answered\n");
    let order = header(&["--prompt", "facts", "--prompt", "main", "--prompt", "facts"]);
    assert!(order.starts_with("id,answer,facts.answer.who,"), "{order}");
    let (exit, words) = project.refused(&["--prompt", "fact"]);
    assert_eq!(exit, Exit::Error);
    assert!(words.contains("did you mean \"facts\"?"), "{words}");
}

#[test]
fn an_old_version_of_a_prompt_can_be_asked_for() {
    let mut project = usual();
    project.prompt("main", AnswerFormat::Choices(vec!["a".into()]));
    assert!(project.exported("a.csv", &[]).contains("01,x,,pending\n"));
    let old = project.exported("a.csv", &["--prompt", "main@1"]);
    assert!(old.contains("answered\n"), "{old}");
    let both = project.exported("a.csv", &["--prompt", "main@1", "--prompt", "main"]);
    let header = both.lines().next().unwrap();
    assert_eq!(header, "id,answer,main@1.answer,main@1.state,main.answer,main.state");
}

#[test]
fn a_project_without_rows_or_prompts_has_a_table_too() {
    let mut project = Project::new();
    assert_eq!(project.exported("a.csv", &[]), "");
    assert_eq!(project.exported("a.jsonl", &[]), "");
    project.add(&["a"], &[r#"{"a":""}"#]);
    assert_eq!(project.exported("a.csv", &[]), "a\n\"\"\n");
    assert_eq!(project.exported("a.jsonl", &["--long"]), "");
    let mut project = Project::new();
    project.prompt("main", AnswerFormat::Text);
    assert_eq!(project.exported("a.csv", &[]), "answer,state\n");
}

#[test]
fn the_format_is_told_by_the_name_or_by_hand() {
    let project = usual();
    let as_json = project.exported("a.txt", &["--format", "jsonl"]);
    assert!(as_json.starts_with("{\"id\":\"01\""), "{as_json}");
    assert!(project.exported("a.jsonl", &["--format", "csv"]).starts_with("id,"));
    for name in ["a.parquet", "a.xlsx", "a.csv.gz", "answers", ".csv"] {
        let path = project.path(name);
        let (exit, words) = project.refused(&[path.to_str().unwrap()]);
        assert_eq!(exit, Exit::Usage, "{name}");
        assert!(words.contains("the formats are csv and jsonl"), "{words}");
        assert!(!path.exists());
    }
    let (exit, words) = project.refused(&["a.jsonl", "--bom"]);
    assert_eq!(exit, Exit::Usage, "{words}");
}

#[test]
fn neither_the_project_nor_its_sources_are_replaced() {
    let project = usual();
    let before = fs::read(project.path("overnight.db")).unwrap();
    for name in ["overnight.db", "overnight.db-wal", "overnight.db-shm", "overnight.db-run"] {
        let path = project.path(name);
        let (_, words) = project.refused(&["--format", "csv", path.to_str().unwrap()]);
        assert!(words.contains("belongs to the project"), "{words}");
    }
    let (_, words) = project.refused(&[project.path("rows.csv").to_str().unwrap()]);
    assert!(words.contains("rows were read from"), "{words}");
    assert_eq!(fs::read_to_string(project.path("rows.csv")).unwrap(), "the rows as they came");
    assert_eq!(fs::read(project.path("overnight.db")).unwrap(), before);
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_a_way_out() {
    let project = usual();
    let (exit, words) = project.refused(&[project.path("none/a.csv").to_str().unwrap()]);
    assert_eq!(exit, Exit::Error);
    assert!(words.contains("mkdir -p"), "{words}");
    fs::create_dir(project.path("folder.csv")).unwrap();
    let (_, words) = project.refused(&[project.path("folder.csv").to_str().unwrap()]);
    assert!(words.contains("folder.csv is a folder"), "{words}");
    if Path::new("/dev/full").exists() {
        let (_, words) = project.refused(&["/dev/full", "--format", "csv"]);
        assert!(words.contains("cannot write /dev/full: the disk is full"), "{words}");
    }
}

#[test]
fn a_report_counts_what_is_there_and_what_is_not() {
    let mut table = Table::start(
        Vec::new(),
        Format::Csv(CsvStyle::default()),
        Layout::new(Shape {
            columns: vec!["state".into()],
            prompts: vec![],
            naming: Naming::Plain,
            details: Details::Without,
            form: Form::Wide,
            liveness: Liveness::Idle,
        }),
        Selection::default(),
    )
    .unwrap();
    let cell = |state| crate::domain::AnswerCell { state, answer: None, details: None };
    let mut give = |states: Vec<State>| {
        let answers = states.into_iter().map(cell).collect();
        let row =
            crate::domain::AnswerRow { position: 1, key: "1".into(), cells: "{}".into(), answers };
        table.row(&row).unwrap();
    };
    give(vec![State::Pending, State::Failed(FailureClass::Timeout), State::Answered]);
    give(vec![State::Pending, State::InBatch, State::Answered]);
    let written = table.finish().unwrap().1;
    assert_eq!(
        missing(&written, 1).unwrap(),
        "4 rows have no answer: 1 failed, 1 in batch, 2 pending"
    );
    assert_eq!(
        missing(&written, 3).unwrap(),
        "4 answers are missing: 1 failed, 1 in batch, 2 pending"
    );
    assert_eq!(missing(&Written::default(), 1), None);
    let report = Report {
        columns: vec!["state".into(), "state_2".into()],
        renamed: vec![("state".into(), "state_2".into())],
        prompts: 3,
        form: Form::Wide,
        written,
    };
    assert_eq!(extent(&report), "2 rows");
    assert_eq!(
        as_json(&report, Path::new("a.csv")),
        json!({
            "file": "a.csv", "rows": 2, "live_rows": 2, "answered": 2,
            "states": {"pending": 2, "in_flight": 0, "in_batch": 1, "in_doubt": 0,
                       "answered": 2, "truncated": 0, "failed": 1},
            "columns": ["state", "state_2"], "renamed": {"state": "state_2"},
        })
    );
}
