//! The ledger, against an oracle written a second time and against a recount of its own attempts.

use proptest::prelude::*;
use rusqlite::params;

use super::*;
use crate::domain::{AttemptId, FailureClass, NanoUsd, Outcome, RequestId, Route, State, Usage};
use crate::machine::request::{Move, next};
use crate::store::{Promise, PromiseFor, Promised, RetryFilter, Settlement};

/// How many rows the tests play with; all but the last have the same body.
const ROWS: usize = 4;

/// One thing that may happen to a row's request.
#[derive(Clone, Debug)]
enum Deed {
    Promise { row: usize, reuse: bool },
    Settle { row: usize, outcome: Outcome, tokens: Option<u32>, cost: Option<i32> },
    Share { row: usize, twin: usize },
    NotRendered { row: usize },
    Ask { row: usize },
}

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
    let promise = (row.clone(), prop::bool::weighted(0.75))
        .prop_map(|(row, reuse)| Deed::Promise { row, reuse });
    let settle =
        (row.clone(), outcomes(), prop::option::of(0..1000u32), prop::option::of(0..1_000_000i32))
            .prop_map(|(row, outcome, tokens, cost)| Deed::Settle { row, outcome, tokens, cost });
    let share = (0..ROWS - 1, 0..ROWS - 1).prop_map(|(row, twin)| Deed::Share { row, twin });
    let deed = prop_oneof![
        8 => promise,
        8 => settle,
        2 => share,
        1 => row.clone().prop_map(|row| Deed::NotRendered { row }),
        2 => row.prop_map(|row| Deed::Ask { row }),
    ];
    prop::collection::vec(deed, 1..40)
}

/// A request as the oracle keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    id: RequestId,
    state: State,
    has_body: bool,
    attempts: u32,
    used: u32,
    tokens: i64,
    cost: Option<i64>,
    /// The attempt that decides, and when it was settled.
    deciding: Option<(AttemptId, Option<i64>)>,
    asked_at: Option<i64>,
    /// The last attempt of its own.
    last: Option<AttemptId>,
}

impl Kept {
    fn new(id: i64) -> Self {
        Self {
            id: RequestId(id),
            state: State::Pending,
            has_body: false,
            attempts: 0,
            used: 0,
            tokens: 0,
            cost: None,
            deciding: None,
            asked_at: None,
            last: None,
        }
    }

    /// Says whether policy alone may make it go again.
    fn may_go(&self) -> bool {
        match self.state {
            State::Pending | State::InDoubt | State::Truncated => true,
            State::Failed(class) => class.is_retried(),
            State::InFlight | State::InBatch | State::Answered => false,
        }
    }

    fn is_under_way(&self) -> bool {
        matches!(self.state, State::InFlight | State::InBatch)
    }

    /// Says whether others may have what it came to, if they have asked before.
    fn can_be_shared(&self, asked_at: Option<i64>) -> bool {
        let is_final = match self.state {
            State::Answered => true,
            State::Failed(class) => !class.is_retried() && class != FailureClass::RenderFailed,
            State::Pending
            | State::InFlight
            | State::InBatch
            | State::InDoubt
            | State::Truncated => false,
        };
        let settled_at = self.deciding.and_then(|(_, at)| at);
        is_final && settled_at.is_some_and(|at| at >= asked_at.unwrap_or(0))
    }

    fn take_over(&mut self, twin: &Self) {
        self.state = twin.state;
        self.used = twin.used;
        self.deciding = twin.deciding;
    }
}

/// What the oracle says comes of a deed.
#[derive(Debug, PartialEq, Eq)]
enum Comes {
    Sent,
    Shared(State),
    Wait(RequestId),
    Settled(State),
    NotRendered,
    Refused,
}

#[derive(Clone, Default)]
struct Oracle {
    requests: [Option<Kept>; ROWS],
    made: i64,
    promised: i64,
}

impl Oracle {
    fn has_same_body(a: usize, b: usize) -> bool {
        a == b || (a < ROWS - 1 && b < ROWS - 1)
    }

    fn make(&mut self, row: usize) -> &mut Kept {
        let next = self.made + 1;
        let made = &mut self.made;
        self.requests[row].get_or_insert_with(|| {
            *made = next;
            Kept::new(next)
        })
    }

    fn promise(&mut self, row: usize, reuse: bool) -> Comes {
        let before = self.clone();
        let mine = self.make(row);
        mine.has_body = true;
        let mine = mine.clone();
        let others = |oracle: &Self| -> Vec<Kept> {
            let is_twin = |other: &usize| *other != row && Self::has_same_body(row, *other);
            let mut twins: Vec<Kept> = (0..ROWS)
                .filter(is_twin)
                .filter_map(|other| oracle.requests[other].clone())
                .collect();
            twins.retain(|twin| twin.has_body);
            twins.sort_by_key(|twin| twin.id);
            twins
        };
        if reuse {
            let twins = others(self);
            let answered = |twin: &&Kept| twin.state == State::Answered;
            let shared = |twin: &&Kept| twin.can_be_shared(mine.asked_at);
            let done = twins.iter().filter(shared).find(answered);
            let under_way = twins.iter().find(|twin| twin.is_under_way());
            if done.is_none()
                && let Some(twin) = under_way
            {
                return Comes::Wait(twin.id);
            }
            if let Some(twin) = done.or_else(|| twins.iter().find(shared)) {
                if !mine.may_go() {
                    *self = before;
                    return Comes::Refused;
                }
                self.make(row).take_over(twin);
                return Comes::Shared(twin.state);
            }
        }
        if !mine.may_go() {
            *self = before;
            return Comes::Refused;
        }
        self.promised += 1;
        let attempt = AttemptId(self.promised);
        let mine = self.make(row);
        mine.attempts += 1;
        mine.state = State::InFlight;
        mine.deciding = Some((attempt, None));
        mine.last = Some(attempt);
        Comes::Sent
    }

    fn settle(&mut self, row: usize, settled: &Settlement) -> Comes {
        let Some(mine) = &mut self.requests[row] else { return Comes::Refused };
        if !mine.is_under_way() {
            return Comes::Refused;
        }
        mine.state = match settled.outcome {
            Outcome::Answered => State::Answered,
            Outcome::Truncated => State::Truncated,
            Outcome::Failed(class) => {
                mine.used += u32::from(class.uses_attempt());
                State::Failed(class)
            }
            Outcome::InDoubt => State::InDoubt,
        };
        mine.tokens += settled.usage.map_or(0, |usage| usage.output as i64);
        if let Some(cost) = settled.cost {
            mine.cost = Some(mine.cost.unwrap_or(0) + cost.0);
        }
        mine.deciding = mine.deciding.map(|(attempt, _)| (attempt, Some(settled.at.0)));
        Comes::Settled(mine.state)
    }

    fn share(&mut self, row: usize, twin: usize) -> Comes {
        let twin = self.requests[twin].clone();
        let (Some(mine), Some(twin)) = (&mut self.requests[row], twin) else {
            return Comes::Refused;
        };
        let is_done = matches!(twin.state, State::Answered | State::Truncated | State::Failed(_));
        if !is_done || twin.deciding.is_none() || !mine.may_go() {
            return Comes::Refused;
        }
        mine.take_over(&twin);
        Comes::Settled(mine.state)
    }

    fn not_rendered(&mut self, row: usize) -> Comes {
        let mine = self.make(row);
        if !mine.may_go() {
            return Comes::Refused;
        }
        mine.state = State::Failed(FailureClass::RenderFailed);
        Comes::NotRendered
    }

    fn ask(&mut self, row: usize, now: i64) {
        if let Some(mine) = &mut self.requests[row]
            && !mine.is_under_way()
        {
            mine.state = State::Pending;
            mine.used = 0;
            mine.asked_at = Some(now);
        }
    }
}

/// The record beside the oracle, both told the same.
struct Play {
    clerk: Clerk,
    person: Store,
    rows: Vec<RowId>,
    prompt: PromptId,
    run: RunId,
    oracle: Oracle,
    now: i64,
}

impl Play {
    fn start(dir: &tempfile::TempDir) -> Self {
        let mut store = project(dir);
        let rows = add_rows(&mut store, ROWS);
        let prompt = add_prompt(&mut store);
        let run = start_run(&mut store);
        let person = Store::open(store.path(), UnixMs(5)).unwrap();
        let clerk = Clerk::start(store);
        Self { clerk, person, rows, prompt, run, oracle: Oracle::default(), now: 100 }
    }

    fn deed(&mut self, deed: &Deed) {
        self.now += 1;
        match *deed {
            Deed::Promise { row, reuse } => self.promise(row, reuse),
            Deed::Settle { row, outcome, tokens, cost } => {
                self.settle(row, outcome, (tokens, cost));
            }
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

    fn promise(&mut self, row: usize, reuse: bool) {
        let text = if row < ROWS - 1 { "the same" } else { "another" };
        let request = match &self.oracle.requests[row] {
            Some(kept) => PromiseFor::Existing { request: kept.id, body: body(text) },
            None => PromiseFor::New { row: self.rows[row], prompt: self.prompt, body: body(text) },
        };
        let promise = Promise {
            request,
            run: self.run,
            route: Route::Realtime,
            max_tokens: None,
            sent_body: None,
            at: UnixMs(self.now),
            reuse,
        };
        let receipt = self.clerk.order(Order::Promise(1, Box::new(promise)));
        assert_eq!(came(&receipt), self.oracle.promise(row, reuse), "row {row}: {receipt:?}");
        if let Receipt::Promised(_, Promised::Sent { request, attempt, number }) = receipt {
            let kept = self.oracle.requests[row].as_ref().unwrap();
            assert_eq!((request, Some(attempt), number), (kept.id, kept.last, kept.attempts));
        }
    }

    fn settle(&mut self, row: usize, outcome: Outcome, (tokens, cost): (Option<u32>, Option<i32>)) {
        let Some(kept) = &self.oracle.requests[row] else { return };
        let Some(attempt) = kept.last else { return };
        let usage = tokens.map(|tokens| {
            let output = u64::from(tokens);
            Usage { input: 2 * output, cached: output / 2, output, reasoning: output / 3 }
        });
        let settlement = Settlement {
            attempt,
            request: kept.id,
            outcome,
            at: UnixMs(self.now),
            answer: (outcome == Outcome::Answered).then(|| "yes".to_owned()),
            error: matches!(outcome, Outcome::Failed(_)).then(|| "no".to_owned()),
            status_code: None,
            provider_request_id: None,
            served_model: None,
            finish_reason: None,
            usage,
            cost: cost.map(|cost| NanoUsd(i64::from(cost))),
            reply: None,
        };
        let receipt = self.clerk.order(Order::Settle(1, Box::new(settlement.clone())));
        assert_eq!(came(&receipt), self.oracle.settle(row, &settlement), "row {row}: {receipt:?}");
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
        Receipt::Refused(..) => Comes::Refused,
        Receipt::Dictionary(..) | Receipt::AsksInWords(_) | Receipt::Trouble(_) => {
            panic!("{receipt:?}")
        }
    }
}

/// One attempt on record, for the recount.
struct Line {
    outcome: Option<Outcome>,
    promised_at: i64,
}

/// Recounts every request from its attempts alone.
fn recount(store: &Store) {
    let requests: Vec<(i64, State, Option<i64>, Option<i64>)> = store
        .conn
        .prepare("SELECT id, state, error_class, attempt_id, asked_at_ms FROM request")
        .unwrap()
        .query_map([], |row| {
            let (word, class): (String, Option<String>) = (row.get(1)?, row.get(2)?);
            let state = State::parse(&word, class.as_deref()).unwrap();
            Ok((row.get(0)?, state, row.get(3)?, row.get(4)?))
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (id, state, deciding, asked_at) in requests {
        let lines = attempts_of(store, id);
        let mut replayed = State::Pending;
        let mut before = 0;
        for line in &lines {
            if replayed == State::Answered {
                assert!(asked_at.is_some_and(|at| at > before), "sent again unasked");
            }
            before = line.promised_at;
            let again = next(replayed, Move::Release).or(next(replayed, Move::Ask)).unwrap();
            replayed = next(again, Move::Promise(Route::Realtime)).unwrap();
            if let Some(outcome) = line.outcome {
                replayed = next(replayed, Move::Settle(outcome)).unwrap();
            }
        }
        let is_own = deciding.is_some_and(|attempt| {
            let sql = "SELECT request_id = ?2 FROM attempt WHERE id = ?1";
            store.conn.query_row(sql, params![attempt, id], |row| row.get(0)).unwrap()
        });
        let is_moved_since = asked_at.is_some() && state == State::Pending
            || state == State::Failed(FailureClass::RenderFailed);
        if !is_moved_since && (is_own || deciding.is_none()) {
            assert_eq!(state, replayed, "request {id}");
        }
        let sums: bool = store
            .conn
            .query_row(
                "SELECT request.attempts = count(attempt.id)
                    AND request.input_tokens = coalesce(sum(attempt.input_tokens), 0)
                    AND request.cached_tokens = coalesce(sum(attempt.cached_tokens), 0)
                    AND request.output_tokens = coalesce(sum(attempt.output_tokens), 0)
                    AND request.reasoning_tokens = coalesce(sum(attempt.reasoning_tokens), 0)
                    AND request.cost_nanousd IS sum(attempt.cost_nanousd)
                 FROM request LEFT JOIN attempt ON attempt.request_id = request.id WHERE request.id = ?1",
                [id],
                |row| row.get(0),
            )
            .unwrap();
        assert!(sums, "the sums of request {id}");
    }
}

fn attempts_of(store: &Store, request: i64) -> Vec<Line> {
    store
        .conn
        .prepare("SELECT outcome, error_class, promised_at_ms FROM attempt WHERE request_id = ?1 ORDER BY number")
        .unwrap()
        .query_map([request], |row| {
            let (outcome, class): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok(Line {
                outcome: outcome.map(|word| Outcome::parse(&word, class.as_deref()).unwrap()),
                promised_at: row.get(2)?,
            })
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_ledger_does_what_the_oracle_says_and_adds_up(deeds in deeds()) {
        let dir = tempfile::tempdir().unwrap();
        let mut play = Play::start(&dir);
        for deed in &deeds {
            play.deed(deed);
            play.compare();
        }
        recount(&play.person);
        let open: usize =
            play.oracle.requests.iter().flatten().filter(|kept| kept.is_under_way()).count();
        drop(play.person);
        let mut store = play.clerk.finish();
        let found = store.recover(UnixMs(10_000)).unwrap();
        prop_assert_eq!(found.newly_in_doubt, open as u64, "what a crash would leave");
        prop_assert_eq!(store.recover(UnixMs(10_001)).unwrap().newly_in_doubt, 0);
        recount(&store);
    }
}

#[test]
fn one_bad_order_does_not_take_its_group_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut play = Play::start(&dir);
    play.deed(&Deed::Promise { row: 0, reuse: true });
    let kept = play.oracle.requests[0].clone().unwrap();
    let settlement = |attempt, answer: Option<&str>| {
        Box::new(Settlement {
            attempt,
            request: kept.id,
            outcome: Outcome::Answered,
            at: UnixMs(500),
            answer: answer.map(str::to_owned),
            error: None,
            status_code: None,
            provider_request_id: None,
            served_model: None,
            finish_reason: None,
            usage: None,
            cost: None,
            reply: None,
        })
    };
    // Whether the writer takes them together or one by one, each gets what is its own.
    play.clerk.writer.send(Order::Settle(1, settlement(AttemptId(99), Some("yes"))));
    play.clerk.writer.send(Order::Settle(2, settlement(kept.last.unwrap(), Some("yes"))));
    play.clerk.writer.send(Order::Settle(3, settlement(kept.last.unwrap(), Some("again"))));
    let mut receipts: Vec<Receipt> = Vec::new();
    while receipts.len() < 3 {
        receipts.extend(play.clerk.receipts.recv().unwrap());
    }
    assert!(matches!(receipts[0], Receipt::Refused(1, _)), "{receipts:?}");
    assert!(matches!(receipts[1], Receipt::Settled(2, State::Answered)), "{receipts:?}");
    assert!(matches!(receipts[2], Receipt::Refused(3, _)), "{receipts:?}");
}

#[test]
fn a_failure_is_shared_exactly_where_sending_again_cannot_mend_it() {
    for class in FailureClass::ALL {
        let dir = tempfile::tempdir().unwrap();
        let mut play = Play::start(&dir);
        play.deed(&Deed::Promise { row: 0, reuse: true });
        let outcome = Outcome::Failed(class);
        play.deed(&Deed::Settle { row: 0, outcome, tokens: None, cost: None });
        play.deed(&Deed::Promise { row: 1, reuse: true });
        play.compare();
        let state = play.oracle.requests[1].as_ref().unwrap().state;
        let is_shared = !class.is_retried() && class != FailureClass::RenderFailed;
        let expected = if is_shared { State::Failed(class) } else { State::InFlight };
        assert_eq!(state, expected, "{class:?}");
    }
}
