//! The ledger, against an oracle written a second time and against a recount of its own attempts.

use std::sync::Arc;

use proptest::prelude::*;

use super::audit::audit;
use super::oracle::{Comes, Kept, Oracle, ROWS};
use super::*;
use crate::domain::{AttemptId, BatchId, FailureClass, NanoUsd, Outcome, Route, State, Usage};
use crate::store::{
    LineKind, LineSettled, NewBatch, Promise, PromiseFor, Promised, ResultFile, ResultLine,
    RetryFilter, Seat, Settlement, Way,
};

/// One thing that may happen to a row's request.
#[derive(Clone, Debug)]
enum Deed {
    Promise {
        row: usize,
        reuse: bool,
        by: Route,
    },
    Settle {
        row: usize,
        outcome: Outcome,
        bill: Bill,
    },
    /// A line of the batch's results for the row's last attempt.
    Line {
        row: usize,
        outcome: Outcome,
        bill: Bill,
    },
    /// What is open in the batch gets no line.
    Missing {
        class: FailureClass,
    },
    Share {
        row: usize,
        twin: usize,
    },
    NotRendered {
        row: usize,
    },
    Ask {
        row: usize,
    },
}

/// Output tokens and nano-USD, as far as they are known.
type Bill = (Option<u32>, Option<i32>);

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Answered),
        1 => Just(Outcome::Truncated),
        3 => prop::sample::select(FailureClass::ALL.to_vec()).prop_map(Outcome::Failed),
        1 => Just(Outcome::InDoubt),
    ]
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let row = 0..ROWS;
    let by = prop::sample::select(vec![Route::Realtime, Route::Batch]);
    let promise = (row.clone(), prop::bool::weighted(0.75), by)
        .prop_map(|(row, reuse, by)| Deed::Promise { row, reuse, by });
    let bill = (prop::option::of(0..1000u32), prop::option::of(0..1_000_000i32));
    let settle = (row.clone(), outcomes(), bill.clone())
        .prop_map(|(row, outcome, bill)| Deed::Settle { row, outcome, bill });
    let line = (row.clone(), outcomes(), bill).prop_map(|(row, outcome, bill)| Deed::Line {
        row,
        outcome,
        bill,
    });
    let missing =
        prop::sample::select(FailureClass::ALL.to_vec()).prop_map(|class| Deed::Missing { class });
    let share = (0..ROWS - 1, 0..ROWS - 1).prop_map(|(row, twin)| Deed::Share { row, twin });
    let deed = prop_oneof![
        8 => promise,
        6 => settle,
        6 => line,
        1 => missing,
        2 => share,
        1 => row.clone().prop_map(|row| Deed::NotRendered { row }),
        2 => row.prop_map(|row| Deed::Ask { row }),
    ];
    prop::collection::vec(deed, 1..40)
}

/// The record beside the oracle, both told the same.
struct Play {
    clerk: Clerk,
    person: Store,
    rows: Vec<RowId>,
    prompt: PromptId,
    run: RunId,
    batch: Arc<NewBatch>,
    oracle: Oracle,
    now: i64,
}

impl Play {
    fn start(dir: &tempfile::TempDir) -> Self {
        let mut store = project(dir);
        unflushed(&store);
        let rows = add_rows(&mut store, ROWS);
        let prompt = add_prompt(&mut store);
        let run = start_run(&mut store);
        let person = Store::open(store.path(), UnixMs(5)).unwrap();
        let clerk = Clerk::start(store);
        let (batch, oracle) = (Arc::new(new_batch("token")), Oracle::default());
        Self { clerk, person, rows, prompt, run, batch, oracle, now: 100 }
    }

    fn deed(&mut self, deed: &Deed) {
        self.now += 1;
        match *deed {
            Deed::Promise { row, reuse, by } => self.promise(row, (reuse, by)),
            Deed::Settle { row, outcome, bill } => self.settle(row, outcome, bill),
            Deed::Line { row, outcome, bill } => self.line(row, outcome, bill),
            Deed::Missing { class } => self.missing(class),
            Deed::Share { row, twin } if row != twin => {
                let id = |row: usize| self.oracle.requests[row].as_ref().map(|kept| kept.id);
                let (Some(request), Some(of)) = (id(row), id(twin)) else { return };
                let receipt = self.clerk.order(Order::Share { ticket: 1, request, twin: of });
                assert_eq!(came(&receipt), self.oracle.share(row, twin), "{deed:?}");
            }
            Deed::Share { .. } => {}
            Deed::NotRendered { row } => {
                let existing = self.oracle.requests[row].as_ref().map(|kept| kept.id);
                let of = (self.rows[row], self.prompt);
                let error = "why".to_owned();
                let receipt =
                    self.clerk.order(Order::NotRendered { ticket: 1, of, existing, error });
                assert_eq!(came(&receipt), self.oracle.not_rendered(row), "{deed:?}");
            }
            Deed::Ask { row } => {
                let rows = vec![format!("k{row}")];
                let filter = RetryFilter { rows, ..RetryFilter::default() };
                self.person.retry(&filter, None, UnixMs(self.now)).unwrap();
                self.oracle.ask(row, self.now);
            }
        }
    }

    fn promise(&mut self, row: usize, (reuse, by): (bool, Route)) {
        let text = if row < ROWS - 1 { "the same" } else { "another" };
        let request = match &self.oracle.requests[row] {
            Some(kept) => PromiseFor::Existing { request: kept.id, body: body(text) },
            None => PromiseFor::New { row: self.rows[row], prompt: self.prompt, body: body(text) },
        };
        let promise = Promise {
            request,
            run: self.run,
            way: match by {
                Route::Realtime => Way::Realtime,
                Route::Batch => {
                    Way::Batch(Seat { batch: Arc::clone(&self.batch), line_bytes: 90, tokens: 7 })
                }
            },
            max_tokens: None,
            sent_body: None,
            at: UnixMs(self.now),
            reuse,
            reserved: None,
        };
        let receipt = self.clerk.order(Order::Promise(1, Box::new(promise)));
        let expected = self.oracle.promise(row, (reuse, by), self.now);
        assert_eq!(came(&receipt), expected, "row {row}: {receipt:?}");
        if let Receipt::Promised(_, Promised::Sent { request, attempt, number, batch }) = receipt {
            let kept = self.oracle.requests[row].as_ref().unwrap();
            let last = kept.last.map(|last| last.attempt);
            assert_eq!((request, Some(attempt), number), (kept.id, last, kept.attempts));
            assert_eq!(batch, (by == Route::Batch).then_some(BatchId(1)));
        }
    }

    /// Makes a settlement of a row's last attempt.
    fn settlement(&self, row: usize, outcome: Outcome, (tokens, cost): Bill) -> Option<Settlement> {
        let kept = self.oracle.requests[row].as_ref()?;
        let last = kept.last?;
        let usage = tokens.map(|tokens| {
            let output = u64::from(tokens);
            Usage {
                input: 2 * output,
                cached: output / 2,
                cache_write: output / 4,
                output,
                reasoning: output / 3,
            }
        });
        Some(Settlement {
            answer: (outcome == Outcome::Answered).then(|| "yes".to_owned()),
            error: matches!(outcome, Outcome::Failed(_)).then(|| "no".to_owned()),
            usage,
            cost: cost.map(|cost| NanoUsd(i64::from(cost))),
            ..Settlement::bare((last.attempt, kept.id), outcome, UnixMs(self.now))
        })
    }

    fn settle(&mut self, row: usize, outcome: Outcome, bill: Bill) {
        let Some(settlement) = self.settlement(row, outcome, bill) else { return };
        let receipt = self.clerk.order(Order::Settle(1, Box::new(settlement.clone())));
        assert_eq!(came(&receipt), self.oracle.settle(row, &settlement), "row {row}: {receipt:?}");
    }

    fn line(&mut self, row: usize, outcome: Outcome, bill: Bill) {
        let settlement = self.settlement(row, outcome, bill);
        let Some(settlement) = settlement.filter(|_| self.oracle.has_batch) else { return };
        // Each line stands at a place of its own.
        let (file, number) = (ResultFile::Output, self.now as u64);
        let kind = LineKind::Settles(Box::new(settlement.clone()));
        let lines = Arc::new(vec![ResultLine { file, number, kind }]);
        let (batch, at) = (BatchId(1), UnixMs(self.now));
        let receipt = self.clerk.order(Order::Lines { ticket: 1, batch, lines, at });
        assert_eq!(came(&receipt), self.oracle.line(row, &settlement), "row {row}: {receipt:?}");
    }

    fn missing(&mut self, class: FailureClass) {
        let (batch, at, error) = (BatchId(1), UnixMs(self.now), "no line".to_owned());
        let receipt = self.clerk.order(Order::Missing { ticket: 1, batch, class, error, at });
        let Receipt::Lines(1, moved) = receipt else { panic!("{receipt:?}") };
        let moved: Vec<_> = moved.iter().map(|line| (line.owner.request, line.state)).collect();
        assert_eq!(moved, self.oracle.missing(Outcome::Failed(class), at));
    }

    /// Holds every request on record against the oracle.
    fn compare(&self) {
        let sql = "SELECT state, error_class, fingerprint IS NOT NULL AS has_body, attempts, attempts_used,
                          output_tokens, cost_nanousd, attempt_id, asked_at_ms
                   FROM request WHERE id = ?1";
        for kept in self.oracle.requests.iter().flatten() {
            let found = self
                .person
                .conn
                .query_row(sql, [kept.id.0], |row| {
                    let class: Option<String> = row.get("error_class")?;
                    let word: String = row.get("state")?;
                    let attempt: Option<i64> = row.get("attempt_id")?;
                    let deciding = kept.deciding.map(|(_, at)| at).unwrap_or_default();
                    Ok(Kept {
                        id: kept.id,
                        state: State::parse(&word, class.as_deref()).unwrap(),
                        has_body: row.get("has_body")?,
                        attempts: row.get("attempts")?,
                        used: row.get("attempts_used")?,
                        tokens: row.get("output_tokens")?,
                        cost: row.get("cost_nanousd")?,
                        deciding: attempt.map(|id| (AttemptId(id), deciding)),
                        asked_at: row.get("asked_at_ms")?,
                        last: kept.last,
                        owned: kept.owned.clone(),
                    })
                })
                .unwrap();
            assert_eq!(&found, kept);
        }
    }
}

/// Says what a receipt comes to, in the oracle's words.
fn came(receipt: &Receipt) -> Comes {
    match receipt {
        Receipt::Promised(_, Promised::Sent { .. }) => Comes::Sent,
        Receipt::Promised(_, Promised::Shared { state, .. }) => Comes::Shared(*state),
        Receipt::Promised(_, Promised::Wait { twin, .. }) => Comes::Wait(twin.request),
        Receipt::Settled(_, state) => Comes::Settled(*state),
        Receipt::NotRendered(..) => Comes::NotRendered,
        Receipt::Promised(_, Promised::Taken { .. }) => Comes::Taken,
        Receipt::Refused(..) => Comes::Refused,
        Receipt::Lines(_, moved) => match moved.as_slice() {
            [] => Comes::Nothing,
            [LineSettled { index: 0, state, .. }] => Comes::Settled(*state),
            [..] => panic!("{receipt:?}"),
        },
        Receipt::Dictionary(..)
        | Receipt::AsksInWords(_)
        | Receipt::AskedUpto(_)
        | Receipt::BatchChanged(..)
        | Receipt::QueueLimit(_)
        | Receipt::Trouble(_) => panic!("{receipt:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_ledger_does_what_the_oracle_says_and_adds_up(deeds in deeds()) {
        let dir = tempfile::tempdir().unwrap();
        let mut play = Play::start(&dir);
        for deed in &deeds {
            play.deed(deed);
            play.compare();
        }
        audit(&play.person);
        let open: usize =
            play.oracle.requests.iter().flatten().filter(|kept| kept.state == State::InFlight).count();
        drop(play.person);
        let mut store = play.clerk.finish();
        let found = store.recover(UnixMs(10_000)).unwrap();
        prop_assert_eq!(found.newly_in_doubt, open as u64, "what a crash would leave");
        prop_assert_eq!(store.recover(UnixMs(10_001)).unwrap().newly_in_doubt, 0);
        audit(&store);
    }
}

#[test]
fn one_bad_order_does_not_take_its_group_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut play = Play::start(&dir);
    play.deed(&Deed::Promise { row: 0, reuse: true, by: Route::Realtime });
    let kept = play.oracle.requests[0].clone().unwrap();
    let settlement = |attempt, answer: &str| {
        let answer = Some(answer.to_owned());
        let bare = Settlement::bare((attempt, kept.id), Outcome::Answered, UnixMs(500));
        Box::new(Settlement { answer, ..bare })
    };
    let last = kept.last.unwrap().attempt;
    // Whether the writer takes them together or one by one, each gets what is its own.
    play.clerk.writer.send(Order::Settle(1, settlement(AttemptId(99), "yes")));
    play.clerk.writer.send(Order::Settle(2, settlement(last, "yes")));
    play.clerk.writer.send(Order::Settle(3, settlement(last, "again")));
    let mut receipts: Vec<Receipt> = Vec::new();
    while receipts.len() < 3 {
        receipts.extend(play.clerk.receipts.recv().unwrap());
    }
    assert!(matches!(receipts[0], Receipt::Refused(1, _)), "{receipts:?}");
    assert!(matches!(receipts[1], Receipt::Settled(2, State::Answered)), "{receipts:?}");
    assert!(matches!(receipts[2], Receipt::Refused(3, _)), "{receipts:?}");
}

#[test]
fn text_that_takes_the_place_of_a_shared_failure_reaches_who_could_not_be_rendered_since() {
    let dir = tempfile::tempdir().unwrap();
    let mut play = Play::start(&dir);
    let bill = (Some(3), Some(7));
    let line = |class| Deed::Line { row: 1, outcome: Outcome::Failed(class), bill };
    for deed in [
        Deed::Promise { row: 0, reuse: false, by: Route::Realtime },
        Deed::Settle { row: 0, outcome: Outcome::InDoubt, bill },
        Deed::Promise { row: 1, reuse: false, by: Route::Batch },
        line(FailureClass::ServerError),
        Deed::Share { row: 0, twin: 1 },
        Deed::NotRendered { row: 0 },
        Deed::Line { row: 1, outcome: Outcome::Answered, bill },
    ] {
        play.deed(&deed);
        play.compare();
    }
    assert_eq!(play.oracle.requests[0].as_ref().unwrap().state, State::Answered);
    audit(&play.person);
}

#[test]
fn whoever_goes_on_after_a_loan_counts_its_own_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let mut play = Play::start(&dir);
    let bill = (None, None);
    for deed in [
        Deed::Promise { row: 0, reuse: true, by: Route::Realtime },
        Deed::Settle { row: 0, outcome: Outcome::Failed(FailureClass::ServerError), bill },
        Deed::Promise { row: 1, reuse: true, by: Route::Realtime },
        Deed::Settle { row: 1, outcome: Outcome::Truncated, bill },
        Deed::Share { row: 0, twin: 1 },
        // With more tokens, by itself.
        Deed::Promise { row: 0, reuse: false, by: Route::Realtime },
        Deed::Settle { row: 0, outcome: Outcome::Failed(FailureClass::ServerError), bill },
    ] {
        play.deed(&deed);
        play.compare();
        audit(&play.person);
    }
    assert_eq!(play.oracle.requests[0].as_ref().unwrap().used, 2);
}

#[test]
fn a_failure_is_shared_exactly_where_sending_again_cannot_mend_it() {
    for class in FailureClass::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut play = Play::start(&dir);
        play.deed(&Deed::Promise { row: 0, reuse: true, by: Route::Realtime });
        let outcome = Outcome::Failed(class);
        play.deed(&Deed::Settle { row: 0, outcome, bill: (None, None) });
        play.deed(&Deed::Promise { row: 1, reuse: true, by: Route::Realtime });
        play.compare();
        let state = play.oracle.requests[1].as_ref().unwrap().state;
        let is_shared = !class.is_retried() && class != FailureClass::RenderFailed;
        let expected = if is_shared { State::Failed(class) } else { State::InFlight };
        assert_eq!(state, expected, "{class:?}");
    }
}
