use super::*;
use crate::cli::fixture::{Call, Fixture, START};
use crate::domain::{BatchEnd, FailureClass, Outcome, RemoteStatus};
use crate::machine::batch::BatchMove;
use crate::store::{Codec, LineKind, RunLock, Settlement, Stray};

fn status(fixture: &mut Fixture) -> Status {
    let context = fixture.context();
    let now = START.plus(Duration::from_mins(90));
    let mut status = read(fixture.store(), now, &context).unwrap();
    status.project = "overnight.db".to_owned();
    status
}

fn json_of(fixture: &mut Fixture) -> serde_json::Value {
    serde_json::to_value(json::json(&status(fixture))).unwrap()
}

fn hints_of(fixture: &mut Fixture) -> Vec<String> {
    hints::hints(&status(fixture), "overnight")
}

/// Six rows: answered, failed for good, failed to be tried again, cut at the limit, promised, untouched.
fn mixed() -> Fixture {
    let mut fixture = Fixture::with_rows(6);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    let sent = fixture.send(&Call::new("r2", "label"));
    fixture.fail(sent, FailureClass::ContentFiltered, "the filter\nwithheld it");
    let sent = fixture.send(&Call::new("r3", "label"));
    fixture.fail(sent, FailureClass::Timeout, "no reply within 600 s");
    let sent = fixture.send(&Call { max_tokens: Some(400), ..Call::new("r4", "label") });
    fixture.cut(sent);
    fixture.send(&Call::new("r5", "label"));
    fixture
}

#[test]
fn the_keys_of_the_json_are_those_of_the_design_in_their_order() {
    let json = serde_json::to_string(&json::json(&status(&mut mixed()))).unwrap();
    let design = r#""requests":{"pending":1,"in_flight":0,"in_batch":0,"in_doubt":1,"answered":1,"truncated":1,"failed":2,"total":6},"failures":{"content_filtered":1,"timeout":1},"attempts":5,"batches":[],"tokens":{"input":20,"cached":8,"cache_write":6,"output":10,"reasoning":4},"cost_usd":2e-6,"running":false,"#;
    let start = r#"{"project":"overnight.db","rows":6,"#;
    assert!(json.starts_with(&format!("{start}{design}")), "{json}");
}

#[test]
fn an_empty_project_says_what_to_add() {
    let mut fixture = Fixture::empty();
    let json = json_of(&mut fixture);
    assert_eq!(json["requests"]["total"], 0);
    assert_eq!(json["cost_usd"], 0.0);
    assert_eq!(json["last_run"], serde_json::Value::Null);
    assert_eq!(
        page::page(&status(&mut fixture)),
        "\
project    overnight.db
rows       0
requests   total  0
last run   none yet
"
    );
    assert_eq!(
        hints_of(&mut fixture),
        ["`overnight prompt add FILE` adds the prompt", "`overnight add FILE` adds rows"]
    );
}

#[test]
fn a_finished_project_is_ready_to_export() {
    let mut fixture = Fixture::with_rows(1);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    fixture.end_run("done", None);
    assert_eq!(
        page::page(&status(&mut fixture)),
        "\
project    overnight.db
rows       1
sources    reviews.csv  1 row of csv, keyed by id, added 2026-01-01T00:00:01.000Z
prompts    label  version 1  simulated/small
requests   answered  1
           total     1
attempts   1
tokens     10 in (4 cached, 3 put into the cache), 5 out (2 reasoning)
cost       $0.000001
last run   2026-01-01T00:00:03.000Z, took 3 s: every due request was answered
"
    );
    assert_eq!(
        hints_of(&mut fixture),
        ["`overnight export answers.csv` writes the table with its answers"]
    );
}

#[test]
fn a_crashed_project_says_what_may_have_been_sent_and_what_failed() {
    let mut fixture = mixed();
    assert_eq!(
        page::page(&status(&mut fixture)),
        "\
project    overnight.db
rows       6
sources    reviews.csv  6 rows of csv, keyed by id, added 2026-01-01T00:00:01.000Z
prompts    label  version 1  simulated/small
requests   pending    1
           in doubt   1
           answered   1
           truncated  1
           failed     2
           total      6
failures   content_filtered  1  row #2: the filter withheld it
           timeout           1  row #3: no reply within 600 s
attempts   5
tokens     20 in (8 cached, 6 put into the cache), 10 out (4 reasoning)
cost       $0.000002
last run   of 2026-01-01T00:00:03.000Z did not come to its end (process 4242 on night-host)
"
    );
    assert_eq!(
        hints_of(&mut fixture),
        [
            "2 requests are due: `overnight run` sends them",
            "1 request may have been sent and has no reply on record: `overnight run` sends it again (billed twice at worst)",
            "`overnight run --in-doubt=hold` leaves what is in doubt as it is",
            "1 request has failed and is not tried again without being asked: `overnight retry --failed` makes it due",
            "`overnight show '#2'` shows what was sent and what came back",
            "1 reply was cut at the token limit: `overnight retry --truncated --max-tokens N` asks for more",
        ]
    );
}

#[test]
fn while_a_run_is_on_its_promises_are_in_flight() {
    let mut fixture = mixed();
    let lock = RunLock::take(&fixture.path()).unwrap().unwrap();
    let json = json_of(&mut fixture);
    assert_eq!(json["running"], true);
    assert_eq!(json["requests"]["in_flight"], 1);
    assert_eq!(json["requests"]["in_doubt"], 0);
    let shown = status(&mut fixture);
    assert!(
        page::page(&shown).ends_with(
            "last run   on since 2026-01-01T00:00:03.000Z (process 4242 on night-host)\n"
        )
    );
    assert_eq!(
        page::line(&shown),
        "1 of 6 answered, 1 pending, 1 in flight, 1 truncated, 2 failed, $0.000002, running"
    );
    assert!(hints_of(&mut fixture).is_empty());
    drop(lock);
    assert_eq!(json_of(&mut fixture)["running"], false);
}

#[test]
fn a_cost_is_null_as_soon_as_one_reply_has_no_price() {
    let mut fixture = Fixture::with_rows(2);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    let sent = fixture.send(&Call::new("r2", "label"));
    let unpriced = Settlement {
        answer: Some("negative".to_owned()),
        cost: None,
        ..fixture.settlement(sent, Outcome::Answered)
    };
    fixture.settle(unpriced);
    let json = json_of(&mut fixture);
    assert_eq!(json["cost_usd"], serde_json::Value::Null);
    assert_eq!(json["cost_known_usd"], 1e-6);
    assert_eq!(json["unpriced_replies"], 1);
    let page = page::page(&status(&mut fixture));
    assert!(page.contains("cost       $0.000001, and 1 reply of unknown price\n"), "{page}");
}

#[test]
fn a_failure_without_a_reply_leaves_the_cost_known() {
    let mut fixture = Fixture::with_rows(1);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.fail(sent, FailureClass::Connection, "refused");
    assert_eq!(json_of(&mut fixture)["cost_usd"], 0.0);
}

#[test]
fn a_run_that_was_stopped_says_by_what() {
    let mut fixture = Fixture::with_rows(1);
    fixture.start_run();
    fixture.end_run("error", Some("unauthorized: the key is wrong"));
    let page = page::page(&status(&mut fixture));
    assert!(page.ends_with("stopped by an error: unauthorized: the key is wrong\n"), "{page}");
    assert_eq!(json_of(&mut fixture)["last_run"]["ended"], "error");
}

#[test]
fn a_shared_reply_is_counted_once() {
    let mut fixture = Fixture::with_rows(2);
    let body = Call::new("r1", "label").body;
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    fixture.promise(&Call { body, ..Call::new("r2", "label") });
    let json = json_of(&mut fixture);
    assert_eq!(json["requests"]["answered"], 2);
    assert_eq!(json["attempts"], 1);
    assert_eq!(json["shared"], 1);
    assert_eq!(json["tokens"]["input"], 10);
}

#[test]
fn a_file_that_grew_is_one_source() {
    let mut fixture = Fixture::with_rows(1);
    fixture.add("reviews.csv", &["r1", "r2", "r3"]);
    fixture.add("more.csv", &["m1"]);
    let json = json_of(&mut fixture);
    assert_eq!(json["rows"], 4);
    let sources: Vec<_> = json["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| (&source["path"], &source["rows"]))
        .collect();
    assert_eq!(sources, [(&"reviews.csv".into(), &3.into()), (&"more.csv".into(), &1.into())]);
}

#[test]
fn watching_ends_with_the_run_or_when_none_comes() {
    let mut watch = Watch::default();
    assert!(watch.goes_on(Liveness::Idle, ON_A_TERMINAL), "a run may be about to begin");
    assert!(watch.goes_on(Liveness::Running, ON_A_TERMINAL));
    assert!(!watch.goes_on(Liveness::Idle, ON_A_TERMINAL), "the run is over");
    let mut watch = Watch::default();
    let looks = (1..100).find(|_| !watch.goes_on(Liveness::Idle, IN_A_LOG)).unwrap();
    assert_eq!(looks, 7, "a minute, and the look after it");
}

#[test]
fn a_page_is_drawn_over_the_last_one() {
    assert_eq!(over(0, "a\n"), "\u{1b}[?7la\n\u{1b}[?7h");
    assert_eq!(over(2, "a\n"), "\u{1b}[2A\u{1b}[J\u{1b}[?7la\n\u{1b}[?7h");
}

/// The row of the page's section on batches that starts with this number.
fn batch_line(fixture: &mut Fixture, number: &str) -> String {
    let page = page::page(&status(fixture));
    let mut lines = page.lines().map(|line| line.trim_start_matches("batches").trim_start());
    let is_it = |line: &&str| line.split(' ').next() == Some(number);
    lines.find(is_it).unwrap_or_else(|| panic!("no batch {number}: {page}")).to_owned()
}

const FAILED: BatchMove = BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Failed));
const COMPLETED: BatchMove = BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Completed));
const IN_PROGRESS: BatchMove = BatchMove::Seen(RemoteStatus::InProgress);

/// One batch collected with an answer, a stray line and a request without a line, one failed as a whole, one
/// worked on, one ended and not collected, one planned.
fn batches() -> Fixture {
    let mut fixture = Fixture::with_rows(9);
    let (collected, sent) = fixture.batch("one", &["r1", "r2"]);
    fixture.submit(collected);
    fixture.look(collected, COMPLETED, Some((2, 0)));
    let answer = Settlement {
        answer: Some("positive".to_owned()),
        ..fixture.settlement(sent[0], Outcome::Answered)
    };
    let stray = LineKind::Stray(Stray::Garbled, Codec::plain().pack(b"{").unwrap());
    fixture.collect(collected, vec![LineKind::Settles(Box::new(answer)), stray]);
    let (failed, _) = fixture.batch("two", &["r3"]);
    fixture.submit(failed);
    fixture.move_batch(failed, FAILED, |change| {
        change.error = Some("token_limit_exceeded: the queue\nis full".to_owned());
    });
    fixture.collect(failed, Vec::new());
    let (worked_on, _) = fixture.batch("three", &["r4", "r5", "r6"]);
    fixture.submit(worked_on);
    fixture.look(worked_on, IN_PROGRESS, Some((1, 1)));
    let (ended, _) = fixture.batch("four", &["r7"]);
    fixture.submit(ended);
    fixture.look(ended, COMPLETED, Some((1, 0)));
    fixture.batch("five", &["r8"]);
    fixture.end_run("waiting", None);
    fixture
}

#[test]
fn every_batch_has_a_line_and_the_open_ones_come_last() {
    let page = page::page(&status(&mut batches()));
    let start = page.find("batches").unwrap();
    let end = page.find("attempts").unwrap();
    assert_eq!(
        &page[start..end],
        "\
batches    1  completed                     2 requests  batch_1       1 answered, $0.000001, took 10 s, 1 stray line
           2  failed                        1 request   batch_2       0 answered, took 8 s: token_limit_exceeded: the queue is full
           3  in progress                   3 requests  batch_3       the provider counts 1 done, 1 failed, 1 h 29 min old, expires in 22 h 30 min
           4  completed, not collected yet  1 request   batch_4       1 h 29 min old
           5  planned                       1 request   not made yet  1 h 29 min old
"
    );
    assert!(page.contains("took 36 s: left while batches are under way\n"), "{page}");
}

#[test]
fn a_script_reads_all_of_a_batch() {
    let json = json_of(&mut batches());
    let all = json["batches"].as_array().unwrap();
    let expected = serde_json::json!({
        "id": 1, "provider_id": "batch_1", "status": "collected", "requests": 2, "ended": "completed",
        "planned_at": "2026-01-01T00:00:04.000Z", "expires_at": "2026-01-02T00:00:00.000Z",
        "seen_at": "2026-01-01T00:00:10.000Z", "collected_at": "2026-01-01T00:00:14.000Z",
        "counts": {"total": 2, "completed": 2, "failed": 0}, "answered": 1, "cost_usd": 1e-6,
        "input_file_id": "file-1", "output_file_id": "file-1-out", "error_file_id": "file-1-err",
        "server": "embedded", "model": "simulated/small", "error": null, "stray_lines": 1,
    });
    assert_eq!(all[0], expected);
    let keys: Vec<_> = expected.as_object().unwrap().keys().collect();
    for batch in all {
        assert_eq!(batch.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    }
    assert_eq!(all[1]["error"], "token_limit_exceeded: the queue\nis full");
    assert_eq!(all[4]["provider_id"], serde_json::Value::Null);
    assert_eq!(all[4]["counts"], serde_json::Value::Null);
    assert_eq!(json["requests"]["in_batch"], 5);
}

#[test]
fn open_batches_are_the_first_thing_to_see_to() {
    let mut fixture = batches();
    assert_eq!(
        hints_of(&mut fixture),
        [
            "1 batch with 3 requests goes on at the provider: `overnight run` waits for its end and collects what came of it",
            "`overnight run --no-wait` collects only what is ready, `overnight cancel --all` ends it early",
            "1 batch with 1 request has ended: `overnight run` collects it",
            "1 batch with 1 request is not at the provider yet: `overnight run` goes on with it, `overnight cancel --all` drops it",
            "3 requests are due: `overnight run` sends them",
        ]
    );
    let lock = RunLock::take(&fixture.path()).unwrap().unwrap();
    assert!(hints_of(&mut fixture).is_empty(), "whoever runs sees to them");
    drop(lock);
}

#[test]
fn a_window_that_closed_is_told_as_such() {
    let mut fixture = Fixture::with_rows(1);
    let (batch, _) = fixture.batch("one", &["r1"]);
    fixture.submit(batch);
    let context = fixture.context();
    let late = START.plus(Duration::from_mins(24 * 60 + 20));
    let shown = read(fixture.store(), late, &context).unwrap();
    let page = page::page(&shown);
    assert!(
        page.contains(
            "created  1 request  batch_1  24 h 19 min old, window closed 20 min 0 s ago\n"
        ),
        "{page}"
    );
}

#[test]
fn a_batch_with_an_answer_of_unknown_price_has_no_cost() {
    let mut fixture = Fixture::with_rows(1);
    let (batch, sent) = fixture.batch("one", &["r1"]);
    fixture.submit(batch);
    fixture.look(batch, COMPLETED, None);
    let answer = Settlement {
        answer: Some("positive".to_owned()),
        cost: None,
        ..fixture.settlement(sent[0], Outcome::Answered)
    };
    fixture.collect(batch, vec![LineKind::Settles(Box::new(answer))]);
    assert_eq!(json_of(&mut fixture)["batches"][0]["cost_usd"], serde_json::Value::Null);
    let line = batch_line(&mut fixture, "1");
    assert!(line.contains("1 answered, of unknown price, took"), "{line}");
}

#[test]
fn many_batches_are_summed_up() {
    let mut fixture = Fixture::with_rows(40);
    for number in 1..=20 {
        let key = format!("r{number}");
        let (batch, sent) = fixture.batch(&format!("done{number}"), &[&key]);
        fixture.submit(batch);
        fixture.look(batch, COMPLETED, None);
        let answer = Settlement {
            answer: Some("positive".to_owned()),
            ..fixture.settlement(sent[0], Outcome::Answered)
        };
        fixture.collect(batch, vec![LineKind::Settles(Box::new(answer))]);
    }
    let page = page::page(&status(&mut fixture));
    assert!(
        page.contains(
            "batches    12 batches before these: 12 of 12 requests answered, $0.000012\n"
        ),
        "{page}"
    );
    for number in 21..=35 {
        let key = format!("r{number}");
        fixture.batch(&format!("open{number}"), &[&key]);
    }
    let page = page::page(&status(&mut fixture));
    let section = &page[page.find("batches").unwrap()..page.find("attempts").unwrap()];
    assert_eq!(section.lines().count(), 1 + 3 + 12 + 1, "{section}");
    assert!(section.contains("17 batches before these: 17 of 17 requests answered"), "{section}");
    assert!(section.ends_with("3 batches more open, with 3 requests\n"), "{section}");
    assert_eq!(json_of(&mut fixture)["batches"].as_array().unwrap().len(), 35);
}
