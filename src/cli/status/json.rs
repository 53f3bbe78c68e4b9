//! What a script reads. Keys are only ever added, after those that are there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Status;
use crate::cli::batches::ended;
use crate::cli::savings::Json as SavedUsd;
use crate::cli::text::moment;
use crate::domain::{BatchCounts, Usage};
use crate::store::{BatchCost, BatchRecord};

#[derive(Serialize)]
pub(super) struct Json<'a> {
    project: &'a str,
    rows: u64,
    requests: Requests,
    failures: &'a BTreeMap<&'static str, u64>,
    attempts: u64,
    batches: Vec<Batch<'a>>,
    tokens: Usage,
    /// `null` where a reply has tokens but no known price.
    cost_usd: Option<f64>,
    running: bool,
    cost_known_usd: f64,
    unpriced_replies: u64,
    shared: u64,
    /// At most, for attempts under way.
    reserved_usd: f64,
    /// At most, for attempts that are over and of which nobody knows whether they were billed.
    perhaps_billed_usd: f64,
    perhaps_billed_attempts: u64,
    saved_usd: SavedUsd,
    due: u64,
    sources: Vec<Source<'a>>,
    prompts: Vec<Prompt<'a>>,
    last_run: Option<Run<'a>>,
    format: i64,
}

#[derive(Serialize)]
struct Requests {
    pending: u64,
    in_flight: u64,
    in_batch: u64,
    in_doubt: u64,
    answered: u64,
    truncated: u64,
    failed: u64,
    total: u64,
}

#[derive(Serialize)]
struct Batch<'a> {
    id: i64,
    provider_id: Option<&'a str>,
    status: &'a str,
    requests: u64,
    /// How it ended at the provider.
    ended: Option<&'static str>,
    planned_at: String,
    expires_at: Option<String>,
    seen_at: Option<String>,
    collected_at: Option<String>,
    /// The provider's own, at the last look.
    counts: Option<BatchCounts>,
    answered: u64,
    /// `null` where a reply has tokens but no known price.
    cost_usd: Option<f64>,
    input_file_id: Option<&'a str>,
    output_file_id: Option<&'a str>,
    error_file_id: Option<&'a str>,
    server: &'a str,
    model: &'a str,
    error: Option<&'a str>,
    stray_lines: u64,
}

#[derive(Serialize)]
struct Source<'a> {
    path: &'a str,
    format: &'a str,
    key_column: Option<&'a str>,
    rows: u64,
    added_at: String,
}

#[derive(Serialize)]
struct Prompt<'a> {
    name: &'a str,
    version: u32,
    model: String,
}

#[derive(Serialize)]
struct Run<'a> {
    started_at: String,
    ended_at: Option<String>,
    ended: Option<&'a str>,
    error: Option<&'a str>,
    process_id: i64,
    host: &'a str,
}

/// Returns what `status --json` prints.
pub(super) fn json(status: &Status) -> Json<'_> {
    let spending = &status.spending;
    let known = spending.cost.usd();
    Json {
        project: &status.project,
        rows: status.counts.rows,
        requests: requests(status),
        failures: &status.counts.failures,
        attempts: spending.attempts,
        batches: batches(status),
        tokens: spending.usage,
        cost_usd: (spending.unpriced == 0).then_some(known),
        running: status.is_running(),
        cost_known_usd: known,
        unpriced_replies: spending.unpriced,
        shared: spending.shared,
        reserved_usd: spending.reserved.usd(),
        perhaps_billed_usd: spending.perhaps.at_most.usd(),
        perhaps_billed_attempts: spending.perhaps.attempts,
        saved_usd: status.savings.json(),
        due: status.left.due(),
        sources: sources(status),
        prompts: prompts(status),
        last_run: last_run(status),
        format: status.format,
    }
}

fn requests(status: &Status) -> Requests {
    let counts = &status.counts;
    Requests {
        pending: counts.pending,
        in_flight: counts.in_flight,
        in_batch: counts.in_batch,
        in_doubt: counts.in_doubt,
        answered: counts.answered,
        truncated: counts.truncated,
        failed: counts.failed(),
        total: counts.total,
    }
}

fn batches(status: &Status) -> Vec<Batch<'_>> {
    status.batches.iter().map(|record| batch(record, status.cost_of(record))).collect()
}

fn batch(batch: &BatchRecord, cost: BatchCost) -> Batch<'_> {
    Batch {
        id: batch.id.0,
        provider_id: batch.provider_id.as_deref(),
        status: batch.status.as_str(),
        requests: batch.requests,
        ended: batch.ended.map(ended),
        planned_at: moment(batch.planned_at),
        expires_at: batch.expires_at.map(moment),
        seen_at: batch.seen_at.map(moment),
        collected_at: batch.collected_at.map(moment),
        counts: batch.counts,
        answered: cost.answered,
        cost_usd: (cost.unpriced == 0).then(|| cost.cost.usd()),
        input_file_id: batch.input_file_id.as_deref(),
        output_file_id: batch.output_file_id.as_deref(),
        error_file_id: batch.error_file_id.as_deref(),
        server: &batch.new.server,
        model: &batch.new.model,
        error: batch.error.as_deref(),
        stray_lines: cost.strays,
    }
}

fn sources(status: &Status) -> Vec<Source<'_>> {
    let sources = status.sources.iter().map(|source| Source {
        path: &source.path,
        format: &source.format,
        key_column: source.key_column.as_deref(),
        rows: source.rows,
        added_at: moment(source.added_at),
    });
    sources.collect()
}

fn prompts(status: &Status) -> Vec<Prompt<'_>> {
    let prompts = status.prompts.iter().map(|prompt| Prompt {
        name: &prompt.name,
        version: prompt.version,
        model: prompt.spec.model.to_string(),
    });
    prompts.collect()
}

fn last_run(status: &Status) -> Option<Run<'_>> {
    status.last_run.as_ref().map(|run| Run {
        started_at: moment(run.started_at),
        ended_at: run.ended.as_ref().map(|(at, _)| moment(*at)),
        ended: run.ended.as_ref().map(|(_, how)| how.as_str()),
        error: run.error.as_deref(),
        process_id: run.process_id,
        host: &run.host,
    })
}
