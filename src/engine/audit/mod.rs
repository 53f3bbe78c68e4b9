//! `audit`: everything on record is worked out a second time, and what does not come out the same is told.
//!
//! ```text
//!  one reader ──pages of requests──▶ a checker a core: unpack, hash, render, read the reply, replay
//!  (one read transaction)            each with findings and counts of its own, put together at the end
//!  one more connection: SQLite's own check of the file, meanwhile
//! ```
//!
//! It asks nobody and changes nothing: neither the record nor its format. What it uses is what a run
//! uses (the encoder, the decoder, the machine's `next`), so it holds the record against the rules and not against
//! a copy of them. Memory does not grow with the table but for a bit a row. What cannot be known from the record is left alone
//! and listed in `tests/audit.rs`, column by column.

mod attempt;
mod batch;
mod finding;
mod ground;
mod recipe;
mod request;
mod row;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use finding::Findings;
pub use finding::{Check, Finding, KEPT, RowName};
pub use ground::Bought;
use ground::{BatchGround, Ground, PriceGroup, PriceTally, RunGround, Tally};
pub use recipe::MakeParts;
use recipe::Recipes;
use request::Checker;

use url::Url;

use crate::domain::UnixMs;
use crate::machine::plan::Liveness;
use crate::store::{
    BoughtTwice, PromptEvidence, RequestEvidence, RunEvidence, Store, StoreError, Taken, Unpacked,
    WrongSum,
};

/// What an audit needs.
pub struct AuditPlan<'a> {
    /// The project.
    pub path: &'a Path,
    /// Now.
    pub now: UnixMs,
    /// Says whether a run is on, at the moment that a store has fixed: then what is in flight is in flight.
    pub liveness: &'a dyn Fn(&Store) -> Result<Liveness, StoreError>,
    /// How many threads check requests.
    pub threads: usize,
    /// Makes the parts of a prompt.
    pub make: &'a MakeParts<'a>,
    /// Is told how many rows and requests are done, and how many there are.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// How much was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows, those that left too.
    pub rows: u64,
    /// Prompt versions.
    pub prompts: u64,
    /// Requests.
    pub requests: u64,
    /// Attempts.
    pub attempts: u64,
    /// Replies that were read again.
    pub replies: u64,
    /// Batches.
    pub batches: u64,
    /// Plain bytes of bodies and replies.
    pub bytes: u64,
}

/// Attempts that may have been billed, and of which nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Requests that stand in doubt.
    pub in_doubt: u64,
    /// Attempts in doubt whose request was sent again.
    pub sent_again: u64,
    /// What these may have cost, at the average of what others of their prompt cost; `None` where that is not known.
    pub cost_nanousd: Option<i64>,
}

/// What was paid for more than once, by the rules or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoubleBuys {
    /// Tried again, the first reply having been cut or not accepted.
    pub tried_again: Bought,
    /// Bought anew after an answer.
    pub asked_again: Bought,
    /// Bought although another request had the same body.
    pub twins: BoughtTwice,
    /// Lines of results with tokens that settled nothing.
    pub strays: Bought,
}

/// What an audit found.
#[derive(Debug)]
pub struct AuditReport {
    /// The format of the file.
    pub format: i64,
    /// How much was checked.
    pub checked: Checked,
    /// How many things do not hold, by check.
    pub counts: Vec<(Check, u64)>,
    /// The first of these, at most [`KEPT`] of each check.
    pub findings: Vec<Finding>,
    /// What is in doubt, by the rules.
    pub doubts: Doubts,
    /// What was bought twice.
    pub double_buys: DoubleBuys,
    /// Attempts whose cost is at a price that this program does not know.
    pub other_prices: u64,
}

impl AuditReport {
    /// Counts all things that do not hold.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}

/// Requests that are handed over together.
const PAGE: usize = 128;
/// Bytes after which fewer are.
const PAGE_BYTES: usize = 2 << 20;

/// What is handed to the checkers.
type Page = Vec<Box<RequestEvidence>>;

/// Audits a project. Fails only where it cannot be opened at all.
pub fn audit(plan: &AuditPlan<'_>) -> Result<AuditReport, StoreError> {
    let store = Store::open_as_it_is(plan.path)?;
    let beside = Store::open_as_it_is(plan.path)?;
    store.freeze()?;
    let liveness = (plan.liveness)(&store)?;
    let format = store.format()?;
    std::thread::scope(|scope| {
        let file = scope.spawn(move || (beside.integrity_problems(), beside.dangling()));
        let mut findings = Findings::default();
        let mut report = record(&store, (plan, liveness), &mut findings);
        if let Ok((unsound, dangling)) = file.join() {
            let unsound =
                unsound.into_iter().map(|problem| Finding::new(Check::File, problem.words));
            let dangling =
                dangling.into_iter().map(|problem| Finding::new(Check::Link, problem.words));
            unsound.chain(dangling).for_each(|finding| findings.add(finding));
        }
        report.format = format;
        (report.counts, report.findings) = findings.into_parts();
        Ok(report)
    })
}

/// Checks everything but the file itself.
fn record(
    store: &Store,
    (plan, liveness): (&AuditPlan<'_>, Liveness),
    findings: &mut Findings,
) -> AuditReport {
    frame(store, findings);
    let prompts = read(store.prompt_evidence(), "prompt", findings);
    let runs = read(store.run_evidence(), "run", findings);
    let batches = read(store.batch_evidence(), "batch", findings);
    let statuses = read(store.status_evidence(), "status of a batch", findings);
    let sources = read(store.source_evidence(), "source", findings);
    let dictionaries = read(store.dictionary_evidence(), "dictionary", findings);
    let ground = Ground {
        recipes: Recipes::read(&prompts, plan.make, findings),
        runs: runs.iter().map(|run| (run.id, RunGround::of(run))).collect(),
        starts: starts(&runs),
        batches: batches.iter().map(|batch| (batch.id, BatchGround::of(batch))).collect(),
        dictionaries: dictionaries.iter().map(Ground::dictionary).collect(),
        liveness,
        created_at_ms: project(store, findings),
        now_ms: plan.now.0,
        knows_all_words: runs.iter().all(|run| run.program_version == env!("CARGO_PKG_VERSION")),
    };
    migrations(store, &ground, findings);
    if let Some(wrong) = ground.wrong_time("the project was made", ground.created_at_ms) {
        findings.add(wrong);
    }
    let bytes = Arc::new(
        dictionaries.into_iter().map(|found| (found.id, found.bytes)).collect::<HashMap<_, _>>(),
    );
    let done = AtomicU64::new(0);
    let all = store.rows_on_record() + store.requests_on_record();
    let tell = || {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(1000) {
            (plan.progress)(done, all);
        }
    };
    let rows =
        row::RowChecker::new(store, &ground, &sources, findings).check(findings, &mut || tell());
    let tally = requests(store, (&ground, &bytes, plan.threads), findings, &tell);
    batch::check((&batches, &statuses), (&ground, &tally), findings);
    let (_, strays) = batch::strays(store, &ground, (&mut Unpacked::new(bytes), findings));
    doubled_places(store, findings);
    in_words((&prompts, &ground), &tally, findings);
    runs_in_order((&runs, &ground), &tally, findings);
    let other_prices = prices(&tally, findings);
    wrong_sums(store, findings);
    let twins = store.bought_twice();
    let twins = twins.unwrap_or_else(|error| unreadable(&error.to_string(), findings));
    let checked = Checked {
        rows,
        prompts: prompts.len() as u64,
        requests: tally.requests,
        attempts: tally.attempts,
        replies: tally.replies,
        batches: batches.len() as u64,
        bytes: tally.bytes,
    };
    let double_buys = DoubleBuys {
        tried_again: tally.tried_again,
        asked_again: tally.asked_again,
        twins,
        strays,
    };
    AuditReport {
        format: 0,
        checked,
        counts: Vec::new(),
        findings: Vec::new(),
        doubts: doubts(&tally),
        double_buys,
        other_prices,
    }
}

/// What is kept so that nobody has to add it up must be what it adds up to.
fn wrong_sums(store: &Store, findings: &mut Findings) {
    match store.wrong_sums() {
        Ok(wrong) => wrong.into_iter().for_each(|WrongSum { column, of, kept, found }| {
            let message = format!("{column} of {of} is {kept}, and comes to {found}");
            findings.add(Finding::new(Check::Sums, message));
        }),
        Err(error) => unreadable(&error.to_string(), findings),
    }
    match store.wrong_marks() {
        Ok(wrong) => wrong.into_iter().for_each(|(prompt, row)| {
            let message = format!(
                "prompt.asked_upto of prompt {prompt} is {row}, and not every row up to there has a request"
            );
            findings.add(Finding::new(Check::Sums, message));
        }),
        Err(error) => unreadable(&error.to_string(), findings),
    }
}

fn unreadable<T: Default>(why: &str, findings: &mut Findings) -> T {
    findings.add(Finding::new(Check::File, why));
    T::default()
}

/// Keeps what could be read of a small table.
fn read<T>(taken: Vec<Taken<T>>, what: &str, findings: &mut Findings) -> Vec<T> {
    let keep = |taken| match taken {
        Taken::Read(read) => Some(read),
        Taken::Unreadable { id: Some(id), why } => {
            unreadable(&format!("{what} {id} cannot be read: {why}"), findings)
        }
        Taken::Unreadable { id: None, why } => {
            unreadable(&format!("the table of each {what} cannot all be read: {why}"), findings)
        }
    };
    taken.into_iter().filter_map(keep).collect()
}

/// Checks the schema, the migrations and the numbering of all tables.
fn frame(store: &Store, findings: &mut Findings) {
    match store.schema_problems() {
        Ok(problems) => problems
            .into_iter()
            .for_each(|problem| findings.add(Finding::new(Check::Schema, problem.words))),
        Err(error) => unreadable(&error.to_string(), findings),
    }
    match store.gaps() {
        Ok(gaps) => gaps.into_iter().for_each(|gap| {
            let words = format!(
                "{} has {} rows, and their numbers go up to {}: some are gone",
                gap.table, gap.rows, gap.last
            );
            findings.add(Finding::new(Check::Link, words));
        }),
        Err(error) => unreadable(&error.to_string(), findings),
    }
}

/// Checks the migrations on record against those that make the file's format.
fn migrations(store: &Store, ground: &Ground, findings: &mut Findings) {
    let found =
        store.migration_evidence().and_then(|found| Ok((found, store.migrations_on_record()?)));
    let (found, count) = match found {
        Ok(found) => found,
        Err(error) => return unreadable(&error.to_string(), findings),
    };
    if count != found.len() as i64 {
        let words =
            format!("{count} migrations are on record, and its format takes {}", found.len());
        findings.add(Finding::new(Check::Migration, words));
    }
    for (index, migration) in found.iter().enumerate() {
        let number = index as i64 + 1;
        if migration.version != Some(number) || migration.name.as_deref() != Some(migration.wanted)
        {
            let words = format!("migration {number} is not on record as {}", migration.wanted);
            findings.add(Finding::new(Check::Migration, words));
        }
        let Some(at) = migration.applied_at_ms else { continue };
        // The first one makes the project.
        if number == 1 && at != ground.created_at_ms {
            let words = "the project was not made when its first migration was applied";
            findings.add(Finding::new(Check::Migration, words));
        }
        if let Some(wrong) = ground.wrong_time(&format!("migration {number} was applied"), at) {
            findings.add(wrong);
        }
    }
}

/// Checks the project's own line, and returns when it was made.
fn project(store: &Store, findings: &mut Findings) -> i64 {
    match store.project_evidence() {
        Ok(Some(project)) => {
            let is_ours = project.token.len() == 12
                && project.token.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_ours {
                findings.add(Finding::new(
                    Check::Project,
                    "its token is not twelve letters and digits",
                ));
            }
            if project.base_url.as_ref().is_some_and(|url| Url::parse(url).is_err()) {
                findings.add(Finding::new(Check::Project, "its base URL is none"));
            }
            project.created_at_ms
        }
        Ok(None) => {
            findings.add(Finding::new(Check::Project, "its own line is not there"));
            0
        }
        Err(error) => unreadable(&error.to_string(), findings),
    }
}

/// Reads all requests here, and has them checked on other threads.
fn requests(
    store: &Store,
    (ground, dictionaries, threads): (&Ground, &Arc<HashMap<i64, Vec<u8>>>, usize),
    findings: &mut Findings,
    tell: &(dyn Fn() + Sync),
) -> Tally {
    let threads = threads.max(1);
    let (pages, taken) = sync_channel::<Page>(threads * 2);
    let taken = Mutex::new(taken);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let checkers: Vec<_> = (0..threads)
            .map(|_| {
                let taken = &taken;
                scope.spawn(move || work(Checker::new(ground, dictionaries), taken, tell))
            })
            .collect();
        hand_over(store, pages, findings);
        for checker in checkers {
            match checker.join() {
                Ok((found, counted)) => {
                    findings.merge(found);
                    tally.merge(counted);
                }
                Err(_) => unreadable(
                    "checking requests broke off; this is a mistake in overnight",
                    findings,
                ),
            }
        }
    });
    tally
}

fn work(
    mut checker: Checker<'_>,
    pages: &Mutex<Receiver<Page>>,
    tell: &(dyn Fn() + Sync),
) -> (Findings, Tally) {
    loop {
        let page = pages.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(page) = page else { return (checker.found, checker.tally) };
        for request in page {
            checker.request(&request);
            tell();
        }
    }
}

fn hand_over(store: &Store, pages: SyncSender<Page>, findings: &mut Findings) {
    let (mut page, mut bytes) = (Page::with_capacity(PAGE), 0);
    store.each_request(&mut |taken| {
        match taken {
            Taken::Read(request) => {
                bytes += size(&request);
                page.push(request);
            }
            Taken::Unreadable { id, why } => {
                let finding = Finding::new(Check::File, format!("it cannot be read: {why}"));
                findings.add(Finding { request: id, ..finding });
            }
        }
        if page.len() < PAGE && bytes < PAGE_BYTES {
            return true;
        }
        bytes = 0;
        pages.send(std::mem::replace(&mut page, Page::with_capacity(PAGE))).is_ok()
    });
    // Nobody takes it only where every checker has broken off, which is found where they are joined.
    let _ = pages.send(page);
}

fn size(request: &RequestEvidence) -> usize {
    let tries = request.tries.iter().map(|attempt| {
        attempt.reply.as_ref().map_or(0, |reply| reply.bytes.len())
            + attempt.answer.as_ref().map_or(0, String::len)
            + attempt.body.as_ref().map_or(0, |body| body.bytes.len())
    });
    let own = request.body.as_ref().map_or(0, |body| body.bytes.len());
    own + request.cells.as_ref().map_or(0, String::len) + tries.sum::<usize>()
}

fn doubled_places(store: &Store, findings: &mut Findings) {
    for (batch, file, line) in read(store.doubled_places(), "place in the results", findings) {
        let words = format!("line {line} of the {file} file has settled more than one attempt");
        findings.add(Finding::new(Check::Batch, words).of_batch(batch));
    }
}

/// A schema is given up once one was refused, and not before.
fn in_words(
    (prompts, ground): (&[PromptEvidence], &Ground),
    tally: &Tally,
    findings: &mut Findings,
) {
    for prompt in prompts {
        let name = Some(format!("{}@{}", prompt.name, prompt.version));
        if let Some(wrong) = ground.wrong_time("it was made", prompt.created_at_ms) {
            findings.add(Finding { prompt: name.clone(), ..wrong });
        }
        let Some(from) = prompt.in_words_from_ms else { continue };
        let counted = tally.prompts.get(&prompt.id).copied().unwrap_or_default();
        let words = match (counted.schema_refused_ms, counted.first_words_ms) {
            (None, _) => "it is asked in words because a schema was refused, and none was",
            (Some(refused), _) if refused > from => {
                "it was asked in words before its schema was refused"
            }
            (_, Some(first)) if first < from => "it was asked in words before it says so",
            _ => continue,
        };
        findings.add(Finding { prompt: name, ..Finding::new(Check::Prompt, words) });
    }
}

/// Runs follow each other: so do the attempts that they made.
fn runs_in_order(
    (runs, ground): (&[RunEvidence], &Ground),
    tally: &Tally,
    findings: &mut Findings,
) {
    let mut made_until = 0;
    for (index, run) in runs.iter().enumerate() {
        let mut wrong = Vec::new();
        if let Some((first, last)) = tally.runs.get(&run.id) {
            if *first <= made_until {
                wrong.push(format!(
                    "run {} made attempt {first}, and a run before it made a later one",
                    run.id
                ));
            }
            made_until = *last.max(&made_until);
        }
        let next = runs.get(index + 1);
        if run.ended_at_ms.is_none() && next.is_some() {
            wrong.push(format!("run {} has no end, and another one has started", run.id));
        }
        let crashed = run.ended.as_deref() == Some("crashed");
        if crashed && next.is_none_or(|next| Some(next.started_at_ms) != run.ended_at_ms) {
            wrong.push(format!(
                "run {} is said to have crashed, and no run has found it so",
                run.id
            ));
        }
        for words in wrong {
            findings.add(Finding::new(Check::Run, words));
        }
        let times = [("started", Some(run.started_at_ms)), ("ended", run.ended_at_ms)];
        for (what, at) in times.into_iter().filter_map(|(what, at)| Some((what, at?))) {
            if let Some(wrong) = ground.wrong_time(&format!("run {} {what}", run.id), at) {
                findings.add(wrong);
            }
        }
        if run.ended_at_ms.is_some_and(|ended| ground::is_before(ended, run.started_at_ms)) {
            findings.add(Finding::new(
                Check::Time,
                format!("run {} ended long before it started", run.id),
            ));
        }
        if next.is_some_and(|next| ground::is_before(next.started_at_ms, run.started_at_ms)) {
            findings.add(Finding::new(
                Check::Time,
                format!("run {} started long after the next one", run.id),
            ));
        }
    }
}

fn starts(runs: &[RunEvidence]) -> Vec<(i64, i64)> {
    let mut starts: Vec<_> = runs.iter().map(|run| (run.started_at_ms, run.id)).collect();
    starts.sort_unstable();
    starts
}

/// Prices change, but not within a run: where some costs are at the price that we know, all are.
fn prices(tally: &Tally, findings: &mut Findings) -> u64 {
    let mut other_prices = 0;
    let mut groups: Vec<(&PriceGroup, &PriceTally)> = tally.prices.iter().collect();
    groups.sort_unstable_by_key(|(group, _)| **group);
    for (_, group) in groups {
        if group.listed > 0 {
            group.others.iter().cloned().for_each(|finding| findings.add(finding));
        } else {
            other_prices += group.other;
        }
        if group.listed + group.other > 0 {
            group.unknown.iter().cloned().for_each(|finding| findings.add(finding));
        }
    }
    other_prices
}

fn doubts(tally: &Tally) -> Doubts {
    let mut doubts = Doubts { cost_nanousd: Some(0), ..Doubts::default() };
    for prompt in tally.prompts.values() {
        let found = prompt.in_doubt + prompt.sent_again;
        doubts.in_doubt += prompt.in_doubt;
        doubts.sent_again += prompt.sent_again;
        let each = i64::try_from(prompt.priced)
            .ok()
            .filter(|priced| *priced > 0)
            .map(|priced| prompt.cost / priced);
        if found > 0 {
            let all =
                each.map(|each| each.saturating_mul(i64::try_from(found).unwrap_or(i64::MAX)));
            doubts.cost_nanousd = doubts.cost_nanousd.zip(all).map(|(a, b)| a.saturating_add(b));
        }
    }
    doubts
}
