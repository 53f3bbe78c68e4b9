//! Carries a round out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use overnight::simulate::Settings;

use crate::books::{Evidence, evidence, holds_at_a_cut, holds_in_the_end, is_kept};
use crate::books::{number, replies_were_charged};
use crate::plan::{Act, Plan};
use crate::site::{End, Said, Site, Stop, settings};

/// Runs after which nothing may be left to do.
const RUNS: usize = 60;
/// How long the last runs may take, each.
const PATIENCE: Duration = Duration::from_secs(90);
/// How a process ends that was killed.
const KILLED: End = End::Signal(9);

/// What all rounds came to.
#[derive(Default)]
pub(crate) struct Tally {
    rounds: AtomicU64,
    kills: AtomicU64,
    attempts: AtomicU64,
    doubts: AtomicU64,
    charged_again: AtomicU64,
    batches: AtomicU64,
}

impl Tally {
    /// Processes that were killed before they ended.
    pub(crate) fn kills(&self) -> u64 {
        self.kills.load(Ordering::SeqCst)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        write!(
            f,
            "{} rounds, {} processes killed, {} attempts, {} batches, {} in doubt, {} charged again",
            of(&self.rounds),
            of(&self.kills),
            of(&self.attempts),
            of(&self.batches),
            of(&self.doubts),
            of(&self.charged_again)
        )
    }
}

fn provider(plan: &Plan) -> Settings {
    let mut settings = settings();
    settings.seed = plan.seed;
    settings.latency = plan.latency;
    settings.latency_jitter = 1.0;
    settings.batch_delay = plan.batch_delay;
    settings.enqueued_tokens = plan.enqueued_tokens;
    settings.rpm = plan.rpm;
    settings.faults = plan.faults.parse().unwrap();
    settings.hang = Duration::from_millis(300);
    settings.drip = Duration::from_millis(2);
    settings
}

/// Carries a round out.
pub(crate) fn carry_out(plan: &Plan, tally: &Tally) {
    let site = Site::new(provider(plan), &[]);
    site.write("main.prompt", &plan.prompt);
    let max_attempts = plan.max_attempts.to_string();
    site.ok(&["init", "--prompt", "main.prompt", "--max-attempts", &max_attempts]);
    site.write("rows.csv", &plan.table);
    site.ok(&["add", "rows.csv", "--key", "id"]);
    let mut kept = Evidence::new();
    for (nth, act) in plan.acts.iter().enumerate() {
        let context = format!("seed {}, act {nth} {}", plan.seed, act.brief());
        match act {
            Act::Write { name, content } => site.write(name, content),
            Act::Run { args, kill_after } => {
                do_it(&site, (args, Some(*kill_after)), tally, &context);
            }
            Act::Command { args, kill_after } => do_it(&site, (args, *kill_after), tally, &context),
        }
        kept = still_holds(&site, &kept, &context);
    }
    settle(&site, plan, &kept);
    tally.rounds.fetch_add(1, Ordering::SeqCst);
    let snapshot = site.snapshot();
    let conn = snapshot.conn();
    let count = |sql: &str| number(&conn, sql);
    tally.attempts.fetch_add(count("SELECT count(*) FROM attempt"), Ordering::SeqCst);
    tally.batches.fetch_add(count("SELECT count(*) FROM batch"), Ordering::SeqCst);
    let doubts = count("SELECT count(*) FROM attempt WHERE outcome = 'in_doubt'");
    tally.doubts.fetch_add(doubts, Ordering::SeqCst);
    tally.charged_again.fetch_add(site.ledger().totals.charged_again, Ordering::SeqCst);
}

/// Does something and kills it after a while.
fn do_it(
    site: &Site,
    (args, kill_after): (&[String], Option<Duration>),
    tally: &Tally,
    context: &str,
) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let running = site.start(&args, Stop::default());
    let said = match kill_after {
        None => running.end(&args),
        Some(after) => running.end_within(after).unwrap_or_else(|killed| killed),
    };
    tally.kills.fetch_add(u64::from(said.end == KILLED), Ordering::SeqCst);
    is_no_mistake(&said, context);
}

/// Demands that a command did not end as it may not: whatever it says, it has not broken down.
fn is_no_mistake(said: &Said, context: &str) {
    assert!(matches!(said.end, End::Code(0 | 1 | 3 | 4 | 5) | KILLED), "{context}: {said:#?}");
    for word in ["panicked", "mistake in overnight", "contradict", "damaged", "internal error"] {
        assert!(!said.stderr.contains(word), "{context}: {said:#?}");
    }
}

/// What must hold after each act. Returns what is on record now.
fn still_holds(site: &Site, before: &Evidence, context: &str) -> Evidence {
    // The ledger first: what is charged in between is for promises that are on record.
    let ledger = site.ledger();
    let snapshot = site.snapshot();
    holds_at_a_cut(&snapshot, &ledger, context);
    replies_were_charged(&snapshot, &site.ledger(), context);
    let now = evidence(&snapshot.conn());
    is_kept(before, &now, context);
    now
}

/// Runs until nothing is left to do.
fn settle(site: &Site, plan: &Plan, before: &Evidence) {
    let args = ["run", "--timeout", "2s", "--poll", "100ms", "--concurrency", "8"];
    let mut last = None;
    // A table without rows is nothing to run.
    site.write("last.csv", "id,review\nlast,the last one\n");
    site.ok(&["add", "last.csv", "--key", "id"]);
    for nth in 0..RUNS {
        let context = format!("seed {}, last run {nth}", plan.seed);
        let running = site.start(&args, Stop::default());
        let said = running
            .end_within(PATIENCE)
            .unwrap_or_else(|said| panic!("{context} hangs: {said:#?}"));
        is_no_mistake(&said, &context);
        if matches!(said.end, End::Code(0 | 3)) {
            let kept = still_holds(site, before, &context);
            holds_in_the_end(&site.snapshot(), &site.ledger(), &context);
            let calls = site.ledger().totals;
            let again = site.run(&args);
            assert_eq!(again.end, said.end, "{context}, and again: {again:#?}");
            let totals = site.ledger().totals;
            let now = (totals.requests, totals.batches_created, totals.files_uploaded);
            let then = (calls.requests, calls.batches_created, calls.files_uploaded);
            assert_eq!(now, then, "{context}: nothing was left to do: {said:#?} {again:#?}");
            still_holds(site, &kept, &context);
            site.ok(&["export", "out.csv"]);
            return;
        }
        last = Some(said);
    }
    panic!("seed {}: it does not come to an end: {last:#?}", plan.seed);
}
