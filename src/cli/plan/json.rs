//! The plan as `plan --json` and `run --dry-run --json` print it. Keys are only ever added.

use std::time::Duration;

use serde_json::{Value, json};

use super::time::{Deadline, Span, all_take};
use super::warn::Warning;
use super::{Details, Plan, PromptPlan, words};
use crate::cli::text::moment;
use crate::domain::{NanoUsd, UnixMs};
use crate::machine::tokens::Basis;

impl Plan {
    /// Returns the plan for a script.
    pub(crate) fn as_json(&self) -> Value {
        let nothing = Details::default();
        let details = self.details.iter().chain(std::iter::repeat(&nothing));
        let prompts: Vec<Value> = self
            .prompts
            .iter()
            .zip(details)
            .map(|(plan, details)| prompt(plan, details, self.ways.limit))
            .collect();
        let cost = self.cost();
        json!({
            "rows": self.rows, "due": self.left().due(), "prompts": prompts,
            "open_batches": {"batches": self.open.batches, "requests": self.open.requests},
            "tokens": {"input": self.sum(|plan| plan.sample.input(plan.ways.taken_up)),
                       "output": self.sum(|plan| plan.sample.output(plan.ways.taken_up))},
            "cost_usd": usd(cost.about), "cost_usd_at_most": usd(cost.most),
            "time": span(all_take(&self.prompts)),
            "by": self.by.as_ref().map(by),
        })
    }
}

fn usd(cost: Option<NanoUsd>) -> Option<f64> {
    cost.map(NanoUsd::usd)
}

fn prompt(plan: &PromptPlan, details: &Details, limit: Option<u64>) -> Value {
    let (left, ways, sample) = (plan.left, plan.ways, &plan.sample);
    let cost = plan.cost();
    let (calls, batch) = (plan.cost_by_calls(), plan.cost_in_batches());
    let mut value = json!({
        "name": plan.prompt.name, "version": plan.prompt.version,
        "model": plan.prompt.spec.model.to_string(),
        "due": left.due(), "route": plan.choice.route.as_str(), "why": words::why(plan, limit),
        "reasons": {"new": left.new, "failed": left.failed, "truncated": left.truncated, "in_doubt": left.in_doubt},
        "not_due": {"answered": left.answered, "under_way": left.under_way, "held": left.held,
                    "failed": left.failed_for_good, "truncated": left.at_token_limit},
        "tokens": tokens(plan),
        "cost_usd": usd(cost.about), "cost_usd_at_most": usd(cost.most),
        "cost_realtime_usd": usd(calls.about), "cost_realtime_usd_at_most": usd(calls.most),
        "cost_batch_usd": usd(batch.and_then(|cost| cost.about)),
        "cost_batch_usd_at_most": usd(batch.and_then(|cost| cost.most)),
        "taken_up": ways.taken_up, "in_batches": ways.in_batches, "batches": ways.batches,
        "by_calls": ways.calls, "waiting": ways.waiting,
    });
    let more = json!({
        "counted": {"requests": sample.notes.looked, "of": left.due(), "is_sample": !sample.is_whole(),
                    "same": sample.notes.same},
        "batch_sizes": batch_sizes(plan),
        "longest": sample.notes.longest.map(|(tokens, spot)| json!({
            "row": spot.position, "key": details.longest_key, "input_tokens": tokens,
            "max_input_tokens": sample.prices().max_input_tokens,
        })),
        "learned": learned(plan),
        "time": time(plan),
        "warnings": details.warnings.iter().map(warning).collect::<Vec<_>>(),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn tokens(plan: &PromptPlan) -> Value {
    let (sample, requests) = (&plan.sample, plan.ways.taken_up);
    let expected = &sample.expected;
    let basis = match expected.basis {
        Basis::Exact => "exact",
        Basis::ExactButForm => "exact_but_schema",
        Basis::Calibrated(_) => "calibrated",
        Basis::Estimate => "estimate",
    };
    json!({
        "input": sample.input(requests), "output": sample.output(requests),
        "output_at_most": sample.most_output(requests),
        "input_at_most": sample.most_input(requests),
        "cached": sample.cached(requests), "reasoning": sample.reasoning(requests),
        "input_basis": basis,
        "input_answers": match expected.basis {
            Basis::Calibrated(answers) => answers,
            Basis::Exact | Basis::ExactButForm | Basis::Estimate => 0,
        },
        "output_basis": if expected.resolved > 0 { "answers" } else { "guess" },
    })
}

fn batch_sizes(plan: &PromptPlan) -> Value {
    let ways = plan.ways;
    if ways.batches == 0 {
        return Value::Null;
    }
    let line = plan.sample.line();
    let requests = ways.in_batches.div_ceil(ways.batches);
    json!({
        "each": {"requests": requests, "bytes": requests * line.bytes, "tokens": requests * line.tokens},
        "largest": {"requests": ways.largest.requests, "bytes": ways.largest.bytes, "tokens": ways.largest.tokens},
    })
}

fn learned(plan: &PromptPlan) -> Value {
    let expected = &plan.sample.expected;
    let attempts = expected.attempts;
    if expected.resolved == 0 {
        return Value::Null;
    }
    let part = |number: u64| number as f64 / attempts.requests.max(1) as f64;
    json!({
        "requests": expected.resolved, "attempts": attempts.settled,
        "billed_attempts_per_request": expected.billed_each,
        "output_tokens_per_request": expected.output,
        "truncated_share": part(attempts.truncated), "refused_share": part(attempts.refused),
        "invalid_share": part(attempts.invalid),
        "cached_share": expected.cached, "reasoning_share": expected.reasoning,
    })
}

fn time(plan: &PromptPlan) -> Value {
    let rates = &plan.rates;
    let (rpm, tpm) = rates.limits();
    json!({
        "realtime": span(plan.calls_take(plan.ways.taken_up)),
        "batch": span(plan.batches_take()),
        "batch_window_s": rates.window.map(|window| window.as_secs()),
        "chosen": span(plan.takes()),
        "requests_per_minute": rpm, "tokens_per_minute": tpm,
        "call_ms": rates.call_ms.map(|(each, _)| each.round()),
    })
}

fn span(span: Option<Span>) -> Value {
    let secs = |time: Duration| (time.as_secs_f64() * 1_000.0).round() / 1_000.0;
    span.map_or(
        Value::Null,
        |span| json!({"at_least_s": secs(span.least), "at_most_s": secs(span.most)}),
    )
}

fn by(by: &Deadline) -> Value {
    let when = |at: Option<UnixMs>| at.map(moment);
    json!({
        "at": moment(by.at), "holds": by.holds, "takes": span(by.takes),
        "calls_after": if by.has_batches { span(by.calls_after) } else { Value::Null },
        "latest": when(by.latest()), "give_instead": when(by.give()),
    })
}

fn warning(warning: &Warning) -> Value {
    let mut value = json!({"kind": warning.kind, "message": warning.words});
    if let (Value::Object(value), Value::Object(facts)) = (&mut value, warning.facts.clone()) {
        value.extend(facts);
    }
    value
}
