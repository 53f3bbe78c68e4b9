//! Batches on record: how one fills, every move it takes and every one it is refused, and what stays known of it.

use proptest::prelude::*;

use super::audit::audit;
use super::*;
use crate::domain::{
    AttemptId, BatchCounts, BatchEnd, BatchId, BatchStatus, NanoUsd, Outcome, RemoteStatus,
    custom_id,
};
use crate::machine::batch::{BatchMove, next};
use crate::store::{BatchChange, BatchRecord, Promised, SeenBatch, Settlement};

const BATCH: BatchId = BatchId(1);

fn moves() -> Vec<BatchMove> {
    use BatchEnd as E;
    use RemoteStatus as R;
    let remote = [R::Validating, R::InProgress, R::Finalizing, R::Cancelling];
    let ended = [E::Completed, E::Failed, E::Expired, E::Cancelled].map(R::Ended);
    let seen = remote.into_iter().chain(ended).map(BatchMove::Seen);
    let ours = [
        BatchMove::Upload,
        BatchMove::Uploaded,
        BatchMove::Create,
        BatchMove::Created,
        BatchMove::Refused,
        BatchMove::Dropped,
        BatchMove::Collect,
        BatchMove::Collected,
    ];
    ours.into_iter().chain(seen).collect()
}

/// A project in which the first of two rows has a place in a batch, and somebody to look at it meanwhile.
fn filled(dir: &tempfile::TempDir) -> (Clerk, Store, impl Fn(usize, &str, &str) -> Promise) {
    let mut store = project(dir);
    unflushed(&store);
    let rows = add_rows(&mut store, 3);
    let prompt = add_prompt(&mut store);
    let run = start_run(&mut store);
    let person = Store::open(store.path(), UnixMs(5)).unwrap();
    unflushed(&person);
    let clerk = Clerk::start(store);
    let promise =
        move |row: usize, token: &str, text: &str| seat((rows[row], prompt, run), token, text);
    let receipt = clerk.order(Order::Promise(1, Box::new(promise(0, "token", "first"))));
    assert!(matches!(receipt, Receipt::Promised(1, Promised::Sent { batch: Some(BATCH), .. })));
    (clerk, person, promise)
}

#[test]
fn a_move_is_made_or_refused_as_the_machine_says_and_a_refused_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (clerk, person, _) = filled(&dir);
    for status in BatchStatus::ALL {
        for event in moves() {
            let set = "UPDATE batch SET status = ?1";
            person.conn.execute(set, [status.as_str()]).unwrap();
            let before = dump(&person);
            let error = Some("not so".to_owned());
            let seen = Some(seen("batch_1"));
            let change = BatchChange { seen, error, ..BatchChange::bare(BATCH, event, UnixMs(50)) };
            let receipt = clerk.order(Order::ChangeBatch(7, Box::new(change)));
            if let Ok(after) = next(status, event) {
                assert!(matches!(receipt, Receipt::BatchChanged(7, now) if now == after));
                assert_eq!(person.batches().unwrap()[0].status, after);
            } else {
                let what = format!("{status} {event:?}");
                assert!(matches!(receipt, Receipt::Refused(7, _)), "{what}: {receipt:?}");
                assert_eq!(dump(&person), before, "{what}");
            }
        }
    }
}

fn seen(provider_id: &str) -> SeenBatch {
    SeenBatch { provider_id: provider_id.to_owned(), reply: b"{}".to_vec(), ..SeenBatch::default() }
}

/// A change, as far as it is drawn: which move, and what was learned with it.
#[derive(Clone, Debug)]
struct Drawn {
    pick: prop::sample::Index,
    input_file: Option<u8>,
    error: Option<u8>,
    seen: Option<DrawnSeen>,
}

/// What the provider said, as far as it is drawn.
#[derive(Clone, Debug)]
struct DrawnSeen {
    id: u8,
    output: Option<u8>,
    error: Option<u8>,
    expires: Option<i64>,
    counts: Option<(u64, u64)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let id = || prop::option::of(any::<u8>());
    let counts = prop::option::of((0..9u64, 0..9u64));
    let seen = (any::<u8>(), id(), id(), prop::option::of(1..999i64), counts).prop_map(
        |(id, output, error, expires, counts)| DrawnSeen { id, output, error, expires, counts },
    );
    (any::<prop::sample::Index>(), id(), id(), prop::option::of(seen))
        .prop_map(|(pick, input_file, error, seen)| Drawn { pick, input_file, error, seen })
}

/// A row of `batch_status`, as the oracle keeps it: when, what, and the raw reply.
type News = (i64, String, Option<Vec<u8>>);

fn news(store: &Store) -> Vec<News> {
    let mut query = store.conn.prepare("SELECT * FROM batch_status ORDER BY id").unwrap();
    let rows =
        query.query_map([], |row| Ok((row.get("at_ms")?, row.get("status")?, row.get("reply")?)));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// The oracle of one batch: what it was last told of each thing.
struct Told {
    record: BatchRecord,
    news: Vec<News>,
}

impl Told {
    fn take(&mut self, change: &BatchChange) {
        let record = &mut self.record;
        let before = record.status;
        record.status = next(before, change.event).unwrap();
        let ends = [
            (BatchStatus::Completed, BatchEnd::Completed),
            (BatchStatus::Failed, BatchEnd::Failed),
            (BatchStatus::Expired, BatchEnd::Expired),
            (BatchStatus::Cancelled, BatchEnd::Cancelled),
        ];
        let end = ends.iter().find(|(status, _)| *status == record.status);
        record.ended = end.map(|(_, end)| *end).or(record.ended);
        let keep = |known: &mut Option<String>, new: &Option<String>| {
            *known = new.clone().or_else(|| known.take());
        };
        keep(&mut record.error, &change.error);
        keep(&mut record.input_file_id, &change.input_file_id);
        if let Some(seen) = &change.seen {
            record.provider_id = Some(seen.provider_id.clone());
            keep(&mut record.output_file_id, &seen.output_file_id);
            keep(&mut record.error_file_id, &seen.error_file_id);
            record.expires_at = seen.expires_at.or(record.expires_at);
            let counts = seen.counts.map(|counts| BatchCounts { total: record.requests, ..counts });
            record.counts = counts.or(record.counts);
            record.seen_at = Some(change.at);
        }
        if record.status == BatchStatus::Collected {
            record.collected_at = Some(change.at);
        }
        if record.status != before || !matches!(change.event, BatchMove::Seen(_)) {
            let reply = change.seen.as_ref().map(|seen| seen.reply.clone());
            self.news.push((change.at.0, record.status.as_str().to_owned(), reply));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_known_of_a_batch_stays_until_it_is_told_anew(draws in prop::collection::vec(drawn(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let (clerk, person, _) = filled(&dir);
        let mut told = Told { record: person.batches().unwrap().remove(0), news: Vec::new() };
        for (index, drawn) in draws.into_iter().enumerate() {
            let status = told.record.status;
            let legal: Vec<BatchMove> = moves().into_iter().filter(|event| next(status, *event).is_ok()).collect();
            if legal.is_empty() {
                break;
            }
            let word = |what: &str, id: u8| format!("{what}-{id}");
            let change = BatchChange {
                input_file_id: drawn.input_file.map(|id| word("file", id)),
                error: drawn.error.map(|id| word("error", id)),
                seen: drawn.seen.map(|seen| SeenBatch {
                    provider_id: word("batch", seen.id),
                    output_file_id: seen.output.map(|id| word("output", id)),
                    error_file_id: seen.error.map(|id| word("error", id)),
                    expires_at: seen.expires.map(UnixMs),
                    counts: seen.counts.map(|(completed, failed)| BatchCounts { total: 77, completed, failed }),
                    reply: word("reply", seen.id).into_bytes(),
                }),
                ..BatchChange::bare(BATCH, legal[drawn.pick.index(legal.len())], UnixMs(100 + index as i64))
            };
            told.take(&change);
            let receipt = clerk.order(Order::ChangeBatch(1, Box::new(change)));
            prop_assert!(matches!(receipt, Receipt::BatchChanged(1, now) if now == told.record.status));
            let found = person.batches().unwrap().remove(0);
            prop_assert_eq!(format!("{found:?}"), format!("{:?}", told.record));
            prop_assert_eq!(&news(&person), &told.news);
            let is_open = person.open_batches().unwrap().len() == 1;
            prop_assert_eq!(is_open, told.record.status != BatchStatus::Collected);
            prop_assert_eq!(person.has_been_in_a_batch(PromptId(1)).unwrap(), told.record.provider_id.is_some());
        }
    }
}

#[test]
fn a_batch_is_on_record_from_its_first_request_on_and_never_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let (clerk, person, promise) = filled(&dir);
    let batches = || person.batches().unwrap().len();
    // The first row's request is under way: its twin needs no place.
    let receipt = clerk.order(Order::Promise(1, Box::new(promise(1, "second", "first"))));
    assert!(matches!(receipt, Receipt::Promised(1, Promised::Wait { .. })), "{receipt:?}");
    assert_eq!(batches(), 1);
    let of = (AttemptId(1), crate::domain::RequestId(1));
    let answered = Settlement {
        answer: Some("yes".to_owned()),
        cost: Some(NanoUsd(3)),
        ..Settlement::bare(of, Outcome::Answered, UnixMs(60))
    };
    clerk.order(Order::Settle(1, Box::new(answered)));
    let existing = |promise: Promise| Promise {
        request: PromiseFor::Existing { request: crate::domain::RequestId(2), body: body("first") },
        ..promise
    };
    // Now it has an answer that its twin shares.
    let receipt = clerk.order(Order::Promise(1, Box::new(existing(promise(1, "second", "first")))));
    assert!(matches!(receipt, Receipt::Promised(1, Promised::Shared { .. })), "{receipt:?}");
    // And what has its answer takes no place.
    let receipt = clerk.order(Order::Promise(1, Box::new(existing(promise(1, "second", "first")))));
    assert!(matches!(receipt, Receipt::Promised(1, Promised::Taken { .. })), "{receipt:?}");
    assert_eq!(batches(), 1);
    let cost = person.batch_costs().unwrap()[&BATCH];
    assert_eq!((cost.cost, cost.answered, cost.unpriced, cost.strays), (NanoUsd(3), 1, 0, 0));
    audit(&person);
}

#[test]
fn a_batch_that_is_on_its_way_takes_no_more_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (clerk, person, promise) = filled(&dir);
    let change = BatchChange::bare(BATCH, BatchMove::Upload, UnixMs(20));
    clerk.order(Order::ChangeBatch(1, Box::new(change)));
    let before = dump(&person);
    let receipt = clerk.order(Order::Promise(1, Box::new(promise(1, "token", "late"))));
    assert!(matches!(receipt, Receipt::Refused(1, _)), "{receipt:?}");
    assert_eq!(dump(&person), before, "not even its request is made");
}

#[test]
fn a_refused_promise_leaves_its_batch_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (clerk, person, promise) = filled(&dir);
    let before = dump(&person);
    // Its prompt does not exist.
    let bad = Promise {
        request: PromiseFor::New { row: RowId(2), prompt: PromptId(99), body: body("x") },
        ..promise(1, "token", "x")
    };
    let receipt = clerk.order(Order::Promise(1, Box::new(bad.clone())));
    assert!(matches!(receipt, Receipt::Refused(1, _)), "{receipt:?}");
    let way = promise(1, "never", "x").way;
    let receipt = clerk.order(Order::Promise(1, Box::new(Promise { way, ..bad })));
    assert!(matches!(receipt, Receipt::Refused(1, _)), "{receipt:?}");
    assert_eq!(dump(&person), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_of_an_input_file_are_the_whole_of_it(
        bodies in prop::collection::vec(("[a-z\u{2028}\"]{0,40}", prop::option::of("[a-z]{0,9}"), any::<bool>()), 1..12),
        limit in 1..6u32,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = project(&dir);
        unflushed(&store);
        let rows = add_rows(&mut store, bodies.len());
        let prompt = add_prompt(&mut store);
        let run = start_run(&mut store);
        let dictionary = store.add_dictionary(prompt, "body", b"{abcdefgh}").unwrap();
        let codec = Codec::with(dictionary, b"{abcdefgh}");
        let clerk = Clerk::start(store);
        let mut expected = Vec::new();
        let (mut bytes, mut tokens) = (0, 0);
        for (index, (text, sent, elsewhere)) in bodies.iter().enumerate() {
            let token = if *elsewhere { "other" } else { "token" };
            let size = 40 + text.len() as u64;
            let mut promise = seat((rows[index], prompt, run), token, text);
            promise.reuse = false;
            promise.sent_body = sent.as_ref().map(|sent| codec.pack(sent.as_bytes()).unwrap());
            if let Way::Batch(seat) = &mut promise.way {
                (seat.line_bytes, seat.tokens) = (size, index as u64);
            }
            let receipt = clerk.order(Order::Promise(1, Box::new(promise)));
            let Receipt::Promised(1, Promised::Sent { attempt, batch: Some(batch), .. }) = receipt else {
                panic!("{receipt:?}")
            };
            if batch == BATCH {
                expected.push((attempt, sent.as_ref().unwrap_or(text).clone().into_bytes()));
                bytes += size + custom_id(token, attempt).len() as u64;
                tokens += index as u64;
            }
        }
        let store = clerk.finish();
        let (mut pages, mut after) = (Vec::new(), AttemptId(0));
        loop {
            let page = store.input_lines(BATCH, (after, limit)).unwrap();
            prop_assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = last.attempt;
            pages.extend(page.into_iter().map(|line| (line.attempt, line.body)));
        }
        let record = store.batches().unwrap().remove(0);
        let found = (record.requests, record.input_bytes, record.tokens);
        prop_assert_eq!(found, (expected.len() as u64, bytes, tokens));
        for (number, (attempt, _)) in expected.iter().enumerate() {
            let found = store.input_line_number((BATCH, *attempt)).unwrap();
            prop_assert_eq!(found, number as u64 + 1);
        }
        prop_assert_eq!(pages, expected);
        audit(&store);
    }
}

#[test]
fn a_provider_s_limit_is_remembered_for_its_model_and_the_newest_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (clerk, person, _) = filled(&dir);
    let learn = |server: &str, model: &str, tokens| {
        let of = (server.to_owned(), model.to_owned());
        let receipt = clerk.order(Order::QueueLimit { ticket: 1, of, tokens, at: UnixMs(30) });
        assert!(matches!(receipt, Receipt::QueueLimit(1)), "{receipt:?}");
    };
    assert_eq!(person.queue_limit("https://a", "m").unwrap(), None);
    learn("https://a", "m", 90_000);
    learn("https://a", "n", 7);
    learn("https://b", "m", 0);
    learn("https://a", "m", 200_000);
    let limits = [("https://a", "m"), ("https://a", "n"), ("https://b", "m"), ("https://b", "n")];
    let found = limits.map(|(server, model)| person.queue_limit(server, model).unwrap());
    assert_eq!(found, [Some(200_000), Some(7), Some(1), None]);
}
