//! Results of batches, read in any order and any number of times, against an oracle that reads each line once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::audit::audit;
use super::*;
use crate::domain::{AttemptId, BatchId, FailureClass, NanoUsd, Outcome, RequestId, State, Usage};
use crate::store::codec::Unpacker;
use crate::store::{LineKind, LineSettled, Promised, ResultFile, ResultLine, Settlement, Stray};

/// Requests of the batch that is read. One more is in a batch of its own.
const ROWS: usize = 4;
/// The batch that is read.
const BATCH: BatchId = BatchId(1);

/// One line of a result file.
#[derive(Clone, Debug)]
enum Told {
    /// Of this row's attempt.
    Of { row: usize, outcome: Outcome, tokens: Option<u32>, cost: Option<i32> },
    /// Of the attempt in the other batch, though it stands here.
    Elsewhere,
    /// It names nothing that was ever asked.
    Unknown,
    /// It cannot be read.
    Garbled,
}

/// One reading of the files, as far as it came.
#[derive(Clone, Debug)]
struct Reading {
    error_first: bool,
    /// Lines put on record together.
    chunk: usize,
    /// Lines after which it breaks off; `None` reads both to the end.
    breaks_off: Option<usize>,
    /// Whether what has no line afterwards is taken to have none.
    settles_rest: bool,
}

/// What a provider brings and how it is read.
#[derive(Clone, Debug)]
struct Case {
    output: Vec<Told>,
    error: Vec<Told>,
    readings: Vec<Reading>,
    /// Whether rows and prompt left the table in the meantime.
    retired: bool,
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Answered),
        1 => Just(Outcome::Truncated),
        4 => prop::sample::select(FailureClass::ALL.to_vec()).prop_map(Outcome::Failed),
    ]
}

fn cases() -> impl Strategy<Value = Case> {
    let bill = (prop::option::of(1..1000u32), prop::option::of(1..1_000_000i32));
    let told = prop_oneof![
        8 => (0..ROWS, outcomes(), bill)
            .prop_map(|(row, outcome, (tokens, cost))| Told::Of { row, outcome, tokens, cost }),
        1 => Just(Told::Elsewhere),
        1 => Just(Told::Unknown),
        1 => Just(Told::Garbled),
    ];
    let file = prop::collection::vec(told, 0..8);
    let reading =
        (any::<bool>(), 1..5usize, prop::option::weighted(0.7, 0..12usize), any::<bool>())
            .prop_map(|(error_first, chunk, breaks_off, settles_rest)| Reading {
                error_first,
                chunk,
                breaks_off,
                settles_rest,
            });
    (file.clone(), file, prop::collection::vec(reading, 0..4), any::<bool>())
        .prop_map(|(output, error, readings, retired)| Case { output, error, readings, retired })
}

/// Where a line stands: `output` or `error`, and its number.
type Place = (&'static str, u64);

/// An attempt as the oracle keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    outcome: Option<Outcome>,
    place: Option<Place>,
    tokens: Option<i64>,
    cost: Option<i64>,
}

impl Kept {
    fn state(&self) -> State {
        match self.outcome {
            None => State::InBatch,
            Some(Outcome::Answered) => State::Answered,
            Some(Outcome::Truncated) => State::Truncated,
            Some(Outcome::Failed(class)) => State::Failed(class),
            Some(Outcome::InDoubt) => State::InDoubt,
        }
    }
}

#[derive(Default)]
struct Oracle {
    attempts: [Kept; ROWS],
    strays: BTreeMap<Place, Stray>,
    read: BTreeSet<Place>,
}

impl Oracle {
    /// Reads a line. Says what state it moved its row's request to, if it did.
    fn line(&mut self, place: Place, told: &Told) -> Option<State> {
        if !self.read.insert(place) {
            return None;
        }
        let (row, outcome, tokens, cost) = match told {
            Told::Of { row, outcome, tokens, cost } => (*row, *outcome, *tokens, *cost),
            Told::Elsewhere | Told::Unknown => {
                self.strays.insert(place, Stray::Unknown);
                return None;
            }
            Told::Garbled => {
                self.strays.insert(place, Stray::Garbled);
                return None;
            }
        };
        let kept = &mut self.attempts[row];
        let is_better = match kept.outcome {
            None => true,
            Some(Outcome::Failed(_)) => outcome.has_text(),
            Some(Outcome::Answered | Outcome::Truncated | Outcome::InDoubt) => false,
        };
        if !is_better {
            self.strays.insert(place, Stray::Doubled);
            return None;
        }
        if let Some(replaced) = kept.place {
            self.strays.insert(replaced, Stray::Doubled);
        }
        *kept = Kept {
            outcome: Some(outcome),
            place: Some(place),
            tokens: tokens.map(i64::from),
            cost: cost.map(i64::from),
        };
        Some(kept.state())
    }

    /// Settles what has no line yet. Says which rows it moved.
    fn missing(&mut self) -> Vec<usize> {
        let open: Vec<usize> =
            (0..ROWS).filter(|row| self.attempts[*row].outcome.is_none()).collect();
        for row in &open {
            self.attempts[*row].outcome = Some(Outcome::Failed(FailureClass::MissingFromBatch));
            // The batch was never made.
            self.attempts[*row].cost = Some(0);
        }
        open
    }
}

/// The raw bytes of a line.
fn raw((file, number): Place) -> Vec<u8> {
    format!(r#"{{"line":{number},"of":"{file}"}}"#).into_bytes()
}

/// The record beside the oracle.
struct Play<'a> {
    case: &'a Case,
    clerk: Clerk,
    codec: Arc<Codec>,
    oracle: Oracle,
    now: i64,
}

impl<'a> Play<'a> {
    /// Puts both batches on record and, where the case wants it, retires what they were made of.
    fn start(dir: &tempfile::TempDir, case: &'a Case) -> Self {
        let mut store = project(dir);
        unflushed(&store);
        let rows = add_rows(&mut store, ROWS + 1);
        let prompt = add_prompt(&mut store);
        let run = start_run(&mut store);
        let dictionary = store.add_dictionary(prompt, "reply", &raw(("output", 1))).unwrap();
        let clerk = Clerk::start(store);
        for (row, id) in rows.iter().enumerate() {
            let batch = if row < ROWS { "token" } else { "other" };
            let promise = seat((*id, prompt, run), batch, &format!("body {row}"));
            let receipt = clerk.order(Order::Promise(1, Box::new(promise)));
            assert!(matches!(receipt, Receipt::Promised(..)), "{receipt:?}");
        }
        let mut store = clerk.finish();
        if case.retired {
            store.remove(&["k0".to_owned()], UnixMs(20)).unwrap();
            let mut adding = store.start_add("more.csv", Some("id"), UnixMs(20)).unwrap();
            let row = NewRow {
                line: 1,
                cells_json: r#"{"id":"k1","new":1}"#,
                identity: Identity::Key("k1"),
            };
            adding.row(row).unwrap();
            adding.finish(&facts(&["id", "new"])).unwrap();
            let newer = add_prompt_saying(&mut store, "{{ id }}!");
            assert_ne!(newer, prompt);
        }
        let codec = Codec::with(dictionary, &raw(("output", 1)));
        Self { case, clerk: Clerk::start(store), codec, oracle: Oracle::default(), now: 100 }
    }

    /// What the process leaves is all that the next one knows.
    fn start_anew(self) -> Self {
        let path = self.clerk.finish().path().to_owned();
        let store = Store::open(&path, UnixMs(self.now)).unwrap();
        unflushed(&store);
        Self { clerk: Clerk::start(store), ..self }
    }

    fn read(&mut self, reading: &Reading) {
        let place = |file: ResultFile, index: usize| (file, index as u64 + 1);
        let output = self.case.output.iter().enumerate();
        let output = output.map(|(index, told)| (place(ResultFile::Output, index), told));
        let error = self.case.error.iter().enumerate();
        let error = error.map(|(index, told)| (place(ResultFile::Error, index), told));
        let lines: Vec<_> = match reading.error_first {
            true => error.chain(output).collect(),
            false => output.chain(error).collect(),
        };
        let whole = lines.len();
        for chunk in lines[..reading.breaks_off.unwrap_or(whole).min(whole)].chunks(reading.chunk) {
            self.chunk(chunk);
        }
        if reading.settles_rest {
            self.missing();
        }
    }

    fn chunk(&mut self, chunk: &[((ResultFile, u64), &Told)]) {
        self.now += 1;
        let lines = chunk.iter().map(|(at, told)| self.result_line(*at, told)).collect();
        let (lines, at) = (Arc::new(lines), UnixMs(self.now));
        let receipt = self.clerk.order(Order::Lines { ticket: 1, batch: BATCH, lines, at });
        let Receipt::Lines(1, moved) = receipt else { panic!("{receipt:?}") };
        let mut expected = Vec::new();
        for (index, ((file, number), told)) in chunk.iter().enumerate() {
            if let Some(state) = self.oracle.line((file.as_str(), *number), told) {
                let Told::Of { row, .. } = told else { panic!("{told:?} moves nothing") };
                expected.push((index, *row, state));
            }
        }
        assert_eq!(moved.iter().map(of_row).collect::<Vec<_>>(), expected);
    }

    fn result_line(&self, (file, number): (ResultFile, u64), told: &Told) -> ResultLine {
        let raw = raw((file.as_str(), number));
        let of = |row: usize| (AttemptId(row as i64 + 1), RequestId(row as i64 + 1));
        let reply = Some(self.codec.pack(&raw).unwrap());
        let bare = |row, outcome| {
            let answer = (outcome == Outcome::Answered).then(|| format!("answer {number}"));
            Settlement {
                reply: reply.clone(),
                answer,
                ..Settlement::bare(of(row), outcome, UnixMs(self.now))
            }
        };
        let kind = match *told {
            Told::Of { row, outcome, tokens, cost } => {
                let usage = tokens.map(|tokens| {
                    let output = u64::from(tokens);
                    Usage {
                        input: 3 * output,
                        cached: output,
                        cache_write: output / 2,
                        output,
                        reasoning: output / 2,
                    }
                });
                let cost = cost.map(|cost| NanoUsd(i64::from(cost)));
                LineKind::Settles(Box::new(Settlement { usage, cost, ..bare(row, outcome) }))
            }
            Told::Elsewhere => LineKind::Settles(Box::new(bare(ROWS, Outcome::Answered))),
            Told::Unknown => LineKind::Stray(Stray::Unknown, Codec::plain().pack(&raw).unwrap()),
            Told::Garbled => LineKind::Stray(Stray::Garbled, Codec::plain().pack(&raw).unwrap()),
        };
        ResultLine { file, number, kind }
    }

    fn missing(&mut self) {
        self.now += 1;
        let (class, error) = (FailureClass::MissingFromBatch, "no line".to_owned());
        let order = Order::Missing { ticket: 1, batch: BATCH, class, error, at: UnixMs(self.now) };
        let receipt = self.clerk.order(order);
        let Receipt::Lines(1, moved) = receipt else { panic!("{receipt:?}") };
        let moved: Vec<_> = moved.iter().map(of_row).collect();
        let state = State::Failed(class);
        let rows = self.oracle.missing();
        let expected: Vec<_> =
            rows.into_iter().enumerate().map(|(index, row)| (index, row, state)).collect();
        assert_eq!(moved, expected);
    }
}

fn of_row(moved: &LineSettled) -> (usize, usize, State) {
    let row = usize::try_from(moved.owner.request.0).unwrap() - 1;
    assert_eq!((moved.owner.position, moved.owner.number), (row as i64 + 1, 1));
    (moved.index, row, moved.state)
}

/// Holds what is on record against the oracle.
fn compare(store: &Store, oracle: &Oracle) {
    let mut unpacker = Unpacker::new(&store.conn);
    let mut query =
        store.conn.prepare("SELECT * FROM attempt WHERE batch_id = ?1 ORDER BY id").unwrap();
    let mut rows = query.query([BATCH.0]).unwrap();
    for kept in &oracle.attempts {
        let row = rows.next().unwrap().unwrap();
        let text = |name: &str| row.get::<_, Option<String>>(name).unwrap();
        let place = text("result_file").map(|file| {
            let file = if file == "output" { "output" } else { "error" };
            (file, row.get("result_line").unwrap())
        });
        let outcome = text("outcome");
        let class = text("error_class");
        let found = Kept {
            outcome: outcome.map(|word| Outcome::parse(&word, class.as_deref()).unwrap()),
            place,
            tokens: row.get("output_tokens").unwrap(),
            cost: row.get("cost_nanousd").unwrap(),
        };
        assert_eq!(&found, kept);
        let reply: Option<Vec<u8>> = row.get("reply").unwrap();
        let reply = reply.map(|bytes| {
            let (dictionary, size) = (row.get("reply_dictionary_id"), row.get("reply_bytes"));
            unpacker.unpack(&bytes, dictionary.unwrap(), size.unwrap()).unwrap()
        });
        assert_eq!(reply, place.map(raw));
        let answer = place.filter(|_| kept.outcome == Some(Outcome::Answered));
        assert_eq!(text("answer"), answer.map(|(_, number)| format!("answer {number}")));
    }
    let mut query = store.conn.prepare("SELECT * FROM stray_line ORDER BY file, number").unwrap();
    let mut rows = query.query([]).unwrap();
    for ((file, number), why) in &oracle.strays {
        let row = rows.next().unwrap().unwrap();
        let text = |name: &str| row.get::<_, String>(name).unwrap();
        assert_eq!((text("file").as_str(), row.get("number").unwrap()), (*file, *number));
        assert_eq!(text("why"), why.as_str(), "{file} {number}");
        let bytes: Vec<u8> = row.get("reply").unwrap();
        let plain = unpacker.unpack(&bytes, None, row.get("reply_bytes").unwrap()).unwrap();
        assert_eq!(plain, raw((*file, *number)), "a stray stands for itself");
    }
    assert!(rows.next().unwrap().is_none(), "a stray is kept once");
}

/// The promises themselves, without the oracle's rules: of the lines alone.
fn hold_promises(store: &Store, case: &Case, oracle: &Oracle) {
    let of = |wanted: usize| {
        let is_its = move |told: &&Told| matches!(told, Told::Of { row, .. } if *row == wanted);
        case.output.iter().chain(&case.error).filter(is_its)
    };
    for row in 0..ROWS {
        let has_text =
            of(row).any(|told| matches!(told, Told::Of { outcome, .. } if outcome.has_text()));
        let kept = oracle.attempts[row].outcome.unwrap();
        assert_eq!(kept.has_text(), has_text, "row {row}: a success is never lost to a failure");
    }
    let spent = store.spending().unwrap();
    let sum =
        |value: fn(&Kept) -> Option<i64>| -> i64 { oracle.attempts.iter().filter_map(value).sum() };
    assert_eq!(spent.usage.output as i64, sum(|kept| kept.tokens));
    assert_eq!(spent.usage.input as i64, 3 * sum(|kept| kept.tokens));
    assert_eq!(spent.cost, NanoUsd(sum(|kept| kept.cost)));
    let cost = store.batch_costs().unwrap()[&BATCH];
    assert_eq!((cost.cost, cost.strays), (spent.cost, oracle.strays.len() as u64));
    let lines = case.output.len() + case.error.len();
    let placed = oracle.attempts.iter().filter(|kept| kept.place.is_some()).count();
    assert_eq!(placed + oracle.strays.len(), lines, "every line is kept");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn results_come_to_the_same_however_often_they_are_read(case in cases()) {
        let dir = tempfile::tempdir().unwrap();
        let mut play = Play::start(&dir, &case);
        for reading in &case.readings {
            play.read(reading);
            play = play.start_anew();
        }
        let whole = Reading { error_first: false, chunk: 3, breaks_off: None, settles_rest: true };
        play.read(&whole);
        play = play.start_anew();
        let before = dump(&Store::open(&dir.path().join("overnight.db"), UnixMs(1)).unwrap());
        for reading in [whole.clone(), Reading { error_first: true, chunk: 1, ..whole }] {
            play.read(&reading);
        }
        let oracle = play.oracle;
        let store = play.clerk.finish();
        prop_assert_eq!(dump(&store), before, "reading again changes nothing");
        compare(&store, &oracle);
        hold_promises(&store, &case, &oracle);
        audit(&store);
        // What left the table is not counted among its requests, and is paid for all the same.
        let counts = store.state_counts(false).unwrap();
        let gone = if case.retired { ROWS as u64 + 1 } else { 0 };
        let rows = if case.retired { ROWS as u64 } else { ROWS as u64 + 1 };
        prop_assert_eq!(counts.total, rows);
        let settled = counts.answered + counts.truncated + counts.failed() + counts.in_batch;
        prop_assert_eq!(settled, ROWS as u64 + 1 - gone);
    }
}

/// Puts lines on record of a batch with nothing retired, each in a chunk of its own.
fn collected(dir: &tempfile::TempDir, output: &[Told], error: &[Told]) -> Store {
    let (output, error) = (output.to_vec(), error.to_vec());
    let case = Case { output, error, readings: Vec::new(), retired: false };
    let mut play = Play::start(dir, &case);
    play.read(&Reading { error_first: false, chunk: 1, breaks_off: None, settles_rest: false });
    let oracle = play.oracle;
    let store = play.clerk.finish();
    compare(&store, &oracle);
    audit(&store);
    store
}

fn told(row: usize, outcome: Outcome, tokens: u32) -> Told {
    Told::Of { row, outcome, tokens: Some(tokens), cost: Some(tokens as i32 * 10) }
}

#[test]
fn a_text_takes_the_place_of_a_failure_and_of_what_that_was_said_to_cost() {
    let dir = tempfile::tempdir().unwrap();
    let failed = told(0, Outcome::Failed(FailureClass::InvalidAnswer), 7);
    let store = collected(&dir, &[failed], &[told(0, Outcome::Answered, 5)]);
    let sums = "SELECT state || ' ' || output_tokens || ' ' || cost_nanousd || ' ' || attempts_used FROM request WHERE id = 1";
    let found: String = store.conn.query_row(sums, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "answered 5 50 0");
    assert_eq!(store.spending().unwrap().cost, NanoUsd(50));
}

#[test]
fn who_shared_a_failure_shares_the_text_that_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let failed = told(0, Outcome::Failed(FailureClass::InvalidRequest), 0);
    let mut store = collected(&dir, &[failed], &[]);
    let row = add_rows(&mut store, ROWS + 2)[ROWS + 1];
    let promise = seat((row, PromptId(1), RunId(1)), "third", "body 0");
    let clerk = Clerk::start(store);
    let receipt = clerk.order(Order::Promise(1, Box::new(promise)));
    let state = State::Failed(FailureClass::InvalidRequest);
    let is_shared = matches!(receipt, Receipt::Promised(1, Promised::Shared { state: now, .. }) if now == state);
    assert!(is_shared, "{receipt:?}");
    let answer = Some("late".to_owned());
    let of = (AttemptId(1), RequestId(1));
    let late = Settlement { answer, ..Settlement::bare(of, Outcome::Answered, UnixMs(501)) };
    let kind = LineKind::Settles(Box::new(late));
    let lines = Arc::new(vec![ResultLine { file: ResultFile::Error, number: 1, kind }]);
    let receipt = clerk.order(Order::Lines { ticket: 1, batch: BATCH, lines, at: UnixMs(501) });
    assert!(matches!(receipt, Receipt::Lines(1, _)), "{receipt:?}");
    let store = clerk.finish();
    let kept = "SELECT attempt.answer FROM request JOIN attempt ON attempt.id = request.attempt_id
                WHERE request.state = 'answered' AND request.error_class IS NULL ORDER BY request.id";
    let mut query = store.conn.prepare(kept).unwrap();
    let found: Vec<String> =
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(found, ["late", "late"]);
    audit(&store);
}

#[test]
fn a_failure_takes_nothing_from_a_text() {
    let dir = tempfile::tempdir().unwrap();
    let failed = told(0, Outcome::Failed(FailureClass::BatchExpired), 7);
    let store = collected(&dir, &[told(0, Outcome::Truncated, 5)], &[failed]);
    let found: String = store
        .conn
        .query_row("SELECT state FROM request WHERE id = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "truncated");
    assert_eq!(store.spending().unwrap().cost, NanoUsd(50));
}

#[test]
fn a_request_that_a_person_asked_for_anew_is_not_moved_by_a_late_line() {
    let dir = tempfile::tempdir().unwrap();
    let failed = told(0, Outcome::Failed(FailureClass::InvalidRequest), 1);
    let mut store = collected(&dir, &[failed], &[]);
    let rows = vec!["k0".to_owned()];
    let filter = crate::store::RetryFilter { rows, ..Default::default() };
    store.retry(&filter, None, UnixMs(500)).unwrap();
    let clerk = Clerk::start(store);
    let of = (AttemptId(1), RequestId(1));
    let reply = Some(Codec::plain().pack(b"late").unwrap());
    let answer = Some("late".to_owned());
    let late = Settlement { answer, reply, ..Settlement::bare(of, Outcome::Answered, UnixMs(501)) };
    let (file, kind) = (ResultFile::Error, LineKind::Settles(Box::new(late)));
    let lines = Arc::new(vec![ResultLine { file, number: 1, kind }]);
    let receipt = clerk.order(Order::Lines { ticket: 1, batch: BATCH, lines, at: UnixMs(501) });
    assert!(matches!(&receipt, Receipt::Lines(1, moved) if moved.is_empty()), "{receipt:?}");
    let store = clerk.finish();
    let kept = "SELECT state || ' ' || (SELECT why FROM stray_line) FROM request WHERE id = 1";
    let found: String = store.conn.query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "pending doubled", "it is kept, and what was asked for is asked");
    audit(&store);
}

#[test]
fn whatever_its_row_and_prompt_have_become_a_line_finds_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case { output: Vec::new(), error: Vec::new(), readings: Vec::new(), retired: true };
    let store = Play::start(&dir, &case).clerk.finish();
    for row in 0..ROWS as i64 {
        let owner = store.line_owner(BATCH, AttemptId(row + 1)).unwrap().unwrap();
        assert_eq!(
            (owner.request.0, owner.position, owner.prompt),
            (row + 1, row + 1, PromptId(1))
        );
        assert_eq!(store.line_owner(BatchId(2), AttemptId(row + 1)).unwrap(), None);
    }
    assert_eq!(store.prompts_of_batch(BATCH).unwrap(), [PromptId(1)]);
}
