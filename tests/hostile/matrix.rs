//! Every fault that the simulated provider has, at every endpoint that it can strike, each in a cell of its own.
//!
//! A cell is a project, a provider in a process of its own on which one fault strikes, and a run to its end. What is
//! expected of each stands in one table; a fault or a moment without a cell fails the test.

use std::collections::BTreeSet;
use std::time::Duration;

use overnight::simulate::{Fault, Moment};

use crate::child::watch;
use crate::shop::Shop;
use crate::support::Folder;
use crate::support::batches::runs::query;

const BOUND: Duration = Duration::from_mins(1);
const ROWS: usize = 4;

/// What a first run comes to that meets a fault.
#[derive(Clone, Copy)]
enum Comes {
    /// It is over by itself: all is answered, what failed on the way is on record with this class, and each body is
    /// charged once and so many times more.
    Healed(&'static str, u64),
    /// The same, and nothing on record failed.
    Unseen,
    /// Some rows stay failed with this class, for a person to look at.
    Fails(&'static str),
    /// The run stops at once with this class; once the cause is gone, the next one answers all.
    Stops(&'static str),
}

use Comes::{Fails, Healed, Stops, Unseen};

/// The fault's word, whom it strikes by calls, and what comes of it at each of the two endpoints.
const CALLS: &[(&str, Comes)] = &[
    ("429", Healed("rate_limited", 0)),
    ("quota", Stops("quota_exhausted")),
    ("500", Healed("server_error", 0)),
    ("503", Healed("overloaded", 0)),
    ("401", Stops("unauthorized")),
    ("403", Stops("forbidden")),
    ("404", Stops("model_not_found")),
    ("400", Fails("invalid_request")),
    ("context", Fails("context_too_long")),
    ("413", Fails("request_too_large")),
    ("reset", Healed("connection", 0)),
    ("close", Healed("connection", 0)),
    ("hang", Healed("timeout", 0)),
    ("slow", Unseen),
    ("cut", Healed("connection", 1)),
    ("badjson", Healed("malformed_reply", 1)),
    ("html", Healed("server_error", 0)),
    ("empty", Healed("malformed_reply", 1)),
    ("refusal", Fails("refused")),
    ("content_filter", Fails("content_filtered")),
    ("length", Healed("truncated", 1)),
    ("wrongtype", Healed("malformed_reply", 1)),
    ("wronglabel", Healed("invalid_answer", 1)),
    ("lost", Healed("connection", 1)),
];

/// The same for lines of batches, and for the calls about files and batches.
const BATCHES: &[(Moment, &str, Comes)] = &[
    (Moment::Line, "refusal", Fails("refused")),
    (Moment::Line, "content_filter", Fails("content_filtered")),
    (Moment::Line, "length", Healed("truncated", 1)),
    (Moment::Line, "wrongtype", Healed("malformed_reply", 1)),
    (Moment::Line, "wronglabel", Healed("invalid_answer", 1)),
    (Moment::Upload, "upload_500", Unseen),
    (Moment::Upload, "upload_lost", Unseen),
    (Moment::Create, "create_500", Unseen),
    (Moment::Create, "create_429", Unseen),
    (Moment::Create, "create_404", Unseen),
    (Moment::Create, "create_lost", Unseen),
    (Moment::Batch, "batch_failed", Healed("batch_failed", 0)),
    (Moment::Batch, "batch_tokens", Healed("batch_failed", 0)),
    (Moment::Batch, "batch_broken", Healed("batch_failed", 0)),
    (Moment::Batch, "batch_expired", Healed("batch_expired", 0)),
    (Moment::Batch, "batch_cancelled", Healed("batch_cancelled", 0)),
    (Moment::Batch, "batch_vanished", Healed("batch_cancelled", 0)),
    (Moment::Batch, "batch_stuck", Unseen),
    (Moment::Result, "result_emptyid", Unseen),
    (Moment::Result, "result_emptyfile", Unseen),
    (Moment::Result, "result_counts", Unseen),
    (Moment::Line, "line_429", Healed("rate_limited", 0)),
    (Moment::Line, "line_500", Healed("server_error", 0)),
    (Moment::Line, "line_missing", Healed("missing_from_batch", 1)),
    (Moment::Line, "line_doubled", Unseen),
    (Moment::Line, "line_unknown", Healed("missing_from_batch", 1)),
    (Moment::Line, "line_garbled", Healed("malformed_reply", 1)),
    (Moment::Line, "line_separator", Unseen),
    (Moment::Line, "line_both", Unseen),
    (Moment::Poll, "poll_500", Unseen),
    (Moment::Poll, "poll_429", Unseen),
    (Moment::Content, "content_404", Unseen),
    (Moment::Content, "content_500", Unseen),
    (Moment::Content, "content_cut", Unseen),
];

/// The two endpoints for answers.
const ENDPOINTS: [&str; 2] = ["chat/completions", "responses"];

#[test]
fn no_fault_is_missing() {
    let words = |moment: Moment| {
        let faults = Fault::ALL.into_iter().filter(move |fault| fault.moments().contains(&moment));
        faults.map(move |fault| (format!("{moment:?}"), fault.as_str()))
    };
    let there: BTreeSet<_> = Moment::ALL.into_iter().flat_map(words).collect();
    let calls = CALLS.iter().map(|(word, _)| ("Call".to_owned(), *word));
    let batches = BATCHES.iter().map(|(moment, word, _)| (format!("{moment:?}"), *word));
    let tested: Vec<_> = calls.chain(batches).collect();
    assert_eq!(tested.iter().cloned().collect::<BTreeSet<_>>(), there);
    assert_eq!(tested.len(), there.len(), "none is there twice");
    let number = tested.len() * ENDPOINTS.len();
    println!(
        "{} faults at {} moments and {} endpoints: {number} cells",
        Fault::ALL.len(),
        Moment::ALL.len(),
        ENDPOINTS.len()
    );
    // What people are told there is, is what is tested.
    let help = Folder::new().ok(&["simulate", "--help"]).stdout;
    for (_, word) in tested {
        assert!(help.contains(&format!("  {word:<16} ")), "{word}");
    }
}

/// Lets a fault strike the first that comes to its moment, and demands what the table says.
fn cell(endpoint: &str, fault: &str, route: &str, comes: Comes) {
    let prompt = format!(
        "---\nendpoint: {endpoint}\nchoices: [yes, no]\nmax_tokens: 20\nmax_tokens_limit: 80\n---\nSay: {{{{ text }}}}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), prompt).unwrap();
    let texts = crate::shop::texts(ROWS, 2);
    let faults = format!("{fault}=first:1");
    let simulate = ["--faults", &faults, "--hang", "1m", "--drip", "1ms"];
    let shop = Shop::open(&texts, &simulate, &["--prompt", file.path().to_str().unwrap()]);
    let timeout = if fault == "hang" { "2s" } else { "1m" };
    let run = &["run", "--route", route, "--poll", "20ms", "--timeout", timeout];
    let at = format!("{fault} at {endpoint} by {route}");
    let first = watch(&shop.folder, run, BOUND);
    first.is_sound();
    assert_eq!(shop.struck(fault), 1, "{at}: {:#?}", first.said);
    let code = match comes {
        Healed(..) | Unseen => 0,
        Fails(_) => 3,
        Stops(_) => 1,
    };
    assert_eq!(first.said.code, Some(code), "{at}: {:#?}", first.said);
    let classes: BTreeSet<String> = query(
        &shop.folder,
        "SELECT DISTINCT coalesce(error_class, outcome) FROM attempt WHERE outcome <> 'answered' OR outcome IS NULL",
    )
    .into_iter()
    .flatten()
    .collect();
    let (class, more) = match comes {
        Healed(class, more) => (Some(class), more),
        Fails(class) | Stops(class) => (Some(class), 0),
        Unseen => (None, 0),
    };
    assert_eq!(
        classes.iter().map(String::as_str).collect::<Vec<_>>(),
        class.into_iter().collect::<Vec<_>>(),
        "{at}"
    );
    if let Fails(_) | Stops(_) = comes {
        let second = watch(&shop.folder, run, BOUND);
        let healed = if let Fails(_) = comes { 3 } else { 0 };
        assert_eq!(second.said.code, Some(healed), "{at}: {:#?}", second.said);
    }
    // The provider's books: nothing is charged again after an answer, and no more than is in doubt without one.
    assert_eq!(shop.total("charged_again"), 0, "{at}");
    let charged = shop.total("charged_requests");
    match comes {
        // A refusal is an answer to the provider.
        Fails("refused" | "content_filtered") => assert_eq!(charged, ROWS as u64, "{at}"),
        Fails(_) => assert_eq!(charged, ROWS as u64 - 1, "{at}"),
        Healed(..) | Unseen | Stops(_) => assert_eq!(charged, ROWS as u64 + more, "{at}"),
    }
    let requests = &shop.folder.status()["requests"];
    let failed = u64::from(matches!(comes, Fails(_)));
    assert_eq!(
        (&requests["answered"], &requests["failed"]),
        (&(ROWS as u64 - failed).into(), &failed.into()),
        "{at}"
    );
    if charged > 0 && !matches!(comes, Fails(_)) {
        shop.all_answered();
    }
}

fn calls_at(endpoint: &str) {
    for (fault, comes) in CALLS {
        cell(endpoint, fault, "realtime", *comes);
    }
}

fn batches_at(endpoint: &str) {
    for (_, fault, comes) in BATCHES {
        cell(endpoint, fault, "batch", *comes);
    }
}

#[test]
fn every_fault_of_calls_at_chat_completions() {
    calls_at(ENDPOINTS[0]);
}

#[test]
fn every_fault_of_calls_at_responses() {
    calls_at(ENDPOINTS[1]);
}

#[test]
fn every_fault_of_batches_at_chat_completions() {
    batches_at(ENDPOINTS[0]);
}

#[test]
fn every_fault_of_batches_at_responses() {
    batches_at(ENDPOINTS[1]);
}
