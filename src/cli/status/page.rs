//! The page that a person reads, and the line that goes into a log.

use std::collections::BTreeMap;

use super::Status;
use crate::cli::page::{Page, aligned, short};
use crate::cli::text::{count, duration, moment, thousands};
use crate::domain::State;
use crate::store::{RunRecord, StateCounts};

/// Batches that are listed; the older ones are only counted.
const BATCHES: usize = 8;
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
        page.field("cost", &cost(status));
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
    parts.push(cost(status));
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

fn batches(status: &Status) -> Vec<String> {
    let older = status.batches.len().saturating_sub(BATCHES);
    let lines: Vec<[String; 4]> = status
        .batches
        .iter()
        .skip(older)
        .map(|batch| {
            let provider_id = batch.provider_id.as_deref().unwrap_or("not made yet");
            [
                batch.id.to_string(),
                batch.status.clone(),
                count(batch.requests, "request"),
                short(provider_id),
            ]
        })
        .collect();
    let mut lines = aligned(&lines);
    if older > 0 {
        lines.insert(0, format!("{} before these", count(older as u64, "batch")));
    }
    lines
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

fn cost(status: &Status) -> String {
    let known = status.spending.cost.to_string();
    match status.spending.unpriced {
        0 => known,
        unpriced if status.spending.cost.0 == 0 => {
            format!("unknown: {} of unknown price", count(unpriced, "reply"))
        }
        unpriced => format!("{known}, and {} of unknown price", count(unpriced, "reply")),
    }
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
