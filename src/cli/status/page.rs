//! The page that a person reads, and the line that goes into a log.

use std::collections::BTreeMap;

use super::Status;
use crate::cli::batches::{is_open, standing, times};
use crate::cli::page::{Page, aligned, short};
use crate::cli::savings::{money, spent};
use crate::cli::text::{count, duration, moment, thousands};
use crate::domain::{BatchStatus, NanoUsd, State};
use crate::store::{BatchCost, BatchRecord, RunRecord, StateCounts};

/// Batches that are listed, as far as that leaves room for [`DONE`]; the others are only counted.
const BATCHES: usize = 8;
/// Batches that are done with and listed however many are open.
const DONE: usize = 3;
/// Open batches that are listed.
const OPEN: usize = 12;
/// As wide as the longest label.
const LABELS: usize = 9;

/// Returns the whole page.
pub(super) fn page(status: &Status) -> String {
    let mut page = Page::new(LABELS);
    page.field("project", &short(&status.project));
    page.field("rows", &thousands(status.counts.rows));
    page.section("sources", &sources(status));
    page.section("prompts", &prompts(status));
    page.section("requests", &requests(&status.counts));
    page.section("failures", &failures(status));
    page.section("batches", &batches(status));
    if status.spending.attempts > 0 {
        page.field("attempts", &attempts(status));
        page.field("tokens", &tokens(status));
        page.field("cost", &spent(&status.spending));
        if let Some(saved) = status.savings.words() {
            page.field("saved", &saved);
        }
    }
    page.field("last run", &last_run(status));
    page.into_text()
}

/// Returns one line for a log.
pub(super) fn line(status: &Status) -> String {
    let counts = &status.counts;
    let mut parts =
        vec![format!("{} of {} answered", thousands(counts.answered), thousands(counts.total))];
    for (state, found) in by_state(counts) {
        if found > 0 && state != State::Answered.as_str() {
            parts.push(format!("{} {}", thousands(found), words(state)));
        }
    }
    parts.push(spent(&status.spending));
    parts.push(if status.is_running() { "running" } else { "no run is on" }.to_owned());
    parts.join(", ")
}

fn sources(status: &Status) -> Vec<String> {
    let lines: Vec<[String; 2]> = status
        .sources
        .iter()
        .map(|source| {
            let key = source.key_column.as_deref().map(|key| format!(", keyed by {}", short(key)));
            let facts = format!(
                "{} of {}{}, added {}",
                count(source.rows, "row"),
                source.format,
                key.unwrap_or_default(),
                moment(source.added_at)
            );
            [short(&source.path), facts]
        })
        .collect();
    aligned(&lines)
}

fn prompts(status: &Status) -> Vec<String> {
    let lines: Vec<[String; 3]> = status
        .prompts
        .iter()
        .map(|prompt| {
            let model = prompt.spec.model.to_string();
            [short(&prompt.name), format!("version {}", prompt.version), short(&model)]
        })
        .collect();
    aligned(&lines)
}

fn requests(counts: &StateCounts) -> Vec<String> {
    let total = ("total", counts.total);
    let lines: Vec<[String; 2]> = by_state(counts)
        .into_iter()
        .filter(|(_, found)| *found > 0)
        .chain([total])
        .map(|(state, found)| [words(state), thousands(found)])
        .collect();
    aligned(&lines)
}

/// Returns how many requests are in each state, in the order in which they are reported.
fn by_state(counts: &StateCounts) -> [(&'static str, u64); 7] {
    let found = [
        counts.pending,
        counts.in_flight,
        counts.in_batch,
        counts.in_doubt,
        counts.answered,
        counts.truncated,
        counts.failed(),
    ];
    std::array::from_fn(|index| (State::WORDS[index], found[index]))
}

fn words(state: &str) -> String {
    state.replace('_', " ")
}

fn failures(status: &Status) -> Vec<String> {
    let examples: BTreeMap<&str, _> =
        status.examples.iter().map(|example| (example.class.as_str(), example)).collect();
    let lines: Vec<[String; 3]> = status
        .counts
        .failures
        .iter()
        .map(|(class, found)| {
            let example = examples.get(class).map(|example| {
                let error = example.error.as_deref().unwrap_or("no word on why");
                format!("row #{}: {}", example.position, short(error))
            });
            [(*class).to_owned(), thousands(*found), example.unwrap_or_default()]
        })
        .collect();
    aligned(&lines)
}

/// Lists the newest batches that are done with, then those that are open, of which the oldest are the next to end.
fn batches(status: &Status) -> Vec<String> {
    let open: Vec<&BatchRecord> = status.open_batches().collect();
    let done: Vec<&BatchRecord> = status.batches.iter().filter(|batch| !is_open(batch)).collect();
    let (open, later) = open.split_at(open.len().min(OPEN));
    let older = done.len().saturating_sub(BATCHES.saturating_sub(open.len()).max(DONE));
    let (older, done) = done.split_at(older);
    let rows: Vec<[String; 5]> =
        done.iter().chain(open).map(|batch| batch_row(status, batch)).collect();
    let mut lines = aligned(&rows);
    if !older.is_empty() {
        lines.insert(0, older_batches(status, older));
    }
    if !later.is_empty() {
        lines.push(format!(
            "{} more open, with {}",
            count(later.len() as u64, "batch"),
            count(later.iter().map(|batch| batch.requests).sum(), "request")
        ));
    }
    lines
}

fn batch_row(status: &Status, batch: &BatchRecord) -> [String; 5] {
    let cost = status.cost_of(batch);
    let mut facts = Vec::new();
    let is_worked_on = matches!(
        batch.status,
        BatchStatus::InProgress | BatchStatus::Finalizing | BatchStatus::Cancelling
    );
    match batch.counts.filter(|_| is_worked_on) {
        Some(counts) => facts.push(format!(
            "the provider counts {} done, {} failed",
            thousands(counts.completed),
            thousands(counts.failed)
        )),
        None if cost.answered > 0 || !is_open(batch) => {
            facts.push(format!("{} answered", thousands(cost.answered)));
        }
        None => {}
    }
    if cost.cost.0 > 0 || cost.unpriced > 0 {
        facts.push(match cost.cost {
            NanoUsd(0) => "of unknown price".to_owned(),
            known => money(known, cost.unpriced),
        });
    }
    facts.push(times(batch, status.now));
    if cost.strays > 0 {
        facts.push(count(cost.strays, "stray line"));
    }
    let mut facts = facts.join(", ");
    if let Some(error) = &batch.error {
        facts.push_str(&format!(": {}", short(error)));
    }
    let unmade = if is_open(batch) { "not made yet" } else { "never made" };
    [
        batch.id.to_string(),
        standing(batch),
        count(batch.requests, "request"),
        short(batch.provider_id.as_deref().unwrap_or(unmade)),
        facts,
    ]
}

fn older_batches(status: &Status, older: &[&BatchRecord]) -> String {
    let mut sum = BatchCost::default();
    for cost in older.iter().map(|batch| status.cost_of(batch)) {
        sum.cost += cost.cost;
        sum.answered += cost.answered;
        sum.unpriced += cost.unpriced;
    }
    format!(
        "{} before these: {} of {} answered, {}",
        count(older.len() as u64, "batch"),
        thousands(sum.answered),
        count(older.iter().map(|batch| batch.requests).sum(), "request"),
        money(sum.cost, sum.unpriced)
    )
}

fn attempts(status: &Status) -> String {
    let attempts = thousands(status.spending.attempts);
    match status.spending.shared {
        0 => attempts,
        1 => format!("{attempts}; 1 request shares another one's reply"),
        shared => format!("{attempts}; {} requests share another one's reply", thousands(shared)),
    }
}

fn tokens(status: &Status) -> String {
    let usage = status.spending.usage;
    format!(
        "{} in ({} cached), {} out ({} reasoning)",
        thousands(usage.input),
        thousands(usage.cached),
        thousands(usage.output),
        thousands(usage.reasoning)
    )
}

fn last_run(status: &Status) -> String {
    let Some(run) = &status.last_run else {
        return if status.is_running() { "is starting" } else { "none yet" }.to_owned();
    };
    let process = format!("process {} on {}", run.process_id, short(&run.host));
    match (&run.ended, status.is_running()) {
        (None, true) => format!("on since {} ({process})", moment(run.started_at)),
        (None, false) => {
            format!("of {} did not come to its end ({process})", moment(run.started_at))
        }
        (Some(_), true) => "is starting".to_owned(),
        (Some((at, how)), false) => {
            let took = duration(at.since(run.started_at));
            format!("{}, took {took}: {}", moment(run.started_at), how_it_ended(run, how))
        }
    }
}

fn how_it_ended(run: &RunRecord, how: &str) -> String {
    let words = match how {
        "done" | "some_failed" if run.is_cancel => "batches were cancelled and collected",
        "waiting" if run.is_cancel => "batches were cancelled, and left before they had ended",
        "done" => "every due request was answered",
        "some_failed" => "finished, with some failed, truncated or held",
        "waiting" => "left while batches are under way",
        "budget" => "stopped by the budget",
        "deadline" => "stopped by the deadline",
        "interrupted" => "interrupted",
        "error" => "stopped by an error",
        "crashed" => "crashed",
        other => other,
    };
    match &run.error {
        Some(error) => format!("{words}: {}", short(error)),
        None => words.to_owned(),
    }
}
