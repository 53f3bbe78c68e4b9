//! The report as `rehearse --json` prints it. Keys are only ever added.

use serde_json::{Value, json};

use super::assumed::Assumed;
use super::problems::Trouble;
use super::report::{OfPrompt, Report, Sum};
use crate::cli::Context;
use crate::cli::text::moment;
use crate::domain::{BatchEnd, NanoUsd, Usage};
use crate::store::RunBatch;

impl Report {
    /// Returns the report for a script.
    pub(super) fn as_json(&self, context: &Context) -> Value {
        let noted = &self.noted;
        let worked_on = || self.batches.iter().filter(|batch| batch.was_worked_on());
        let sizes = worked_on().map(|batch| batch.requests);
        json!({
            "project": context.project, "as_of": moment(self.before.as_of),
            "run_is_on": self.before.is_running, "rows": self.before.rows,
            "copy_bytes": self.before.copy_bytes,
            "set_aside": {"batches": self.before.aside.0, "requests": self.before.aside.1},
            "ended": self.how.as_str(), "exit_code": self.exit() as i32,
            "requests": {
                "taken_up": noted.due, "answered": noted.answered, "shared": noted.shared,
                "failed": noted.failed, "truncated": noted.truncated, "left": self.left(),
            },
            "calls": sum(&self.calls), "in_batches": sum(&self.in_batches),
            "batches": {
                "count": worked_on().count(), "refused": self.batches.len() - worked_on().count(),
                "waves": self.waves,
                "smallest": sizes.clone().min(), "largest": sizes.max(),
                "list": self.batches.iter().map(|one| batch(one, self)).collect::<Vec<_>>(),
            },
            "duration_s": self.duration.as_secs_f64(),
            "half_answered_s": self.half.map(|half| half.as_secs_f64()),
            "done_at": moment(self.done_at),
            "tokens": tokens(self.usage()), "cost_usd": usd(self.cost()),
            "prompts": self.prompts.iter().map(prompt).collect::<Vec<_>>(),
            "tried_again": noted.again,
            "problems": self.troubles.iter().map(|one| trouble(one, context)).collect::<Vec<_>>(),
            "remarks": noted.remarks,
            "assumed": self.assumed.iter().map(Assumed::as_json).collect::<Vec<_>>(),
            "took_s": self.took.as_secs_f64(),
        })
    }
}

fn usd(cost: Option<NanoUsd>) -> Option<f64> {
    cost.map(NanoUsd::usd)
}

fn tokens(usage: Usage) -> Value {
    json!({
        "input": usage.input, "cached": usage.cached, "cache_write": usage.cache_write,
        "output": usage.output, "reasoning": usage.reasoning,
    })
}

fn sum(sum: &Sum) -> Value {
    json!({
        "requests": sum.requests, "attempts": sum.attempts, "answered": sum.answered,
        "tokens": tokens(sum.usage), "cost_usd": usd(sum.cost()),
    })
}

fn batch(batch: &RunBatch, report: &Report) -> Value {
    let started_at = report.done_at.0 - report.duration.as_millis() as i64;
    let since = |at: crate::domain::UnixMs| (at.0 - started_at) as f64 / 1e3;
    json!({
        "id": batch.id.0, "model": batch.model, "server": batch.server, "requests": batch.requests,
        "tokens": batch.tokens, "input_bytes": batch.input_bytes,
        "created_s": batch.created_at.map(since), "ended_s": batch.ended_at.map(since),
        "ended": batch.ended.map(BatchEnd::as_str), "error": batch.error,
    })
}

fn prompt(one: &OfPrompt) -> Value {
    let OfPrompt { prompt, calls, in_batches } = one;
    json!({
        "name": prompt.name, "version": prompt.version, "model": prompt.spec.model.to_string(),
        "calls": sum(calls), "in_batches": sum(in_batches),
    })
}

fn trouble(one: &Trouble, context: &Context) -> Value {
    json!({
        "kind": one.kind, "prompt": one.prompt, "requests": one.requests,
        "positions": one.positions, "what": one.what, "message": one.message,
        "hint": one.hint.replace("PROGRAM", &context.program()),
    })
}
