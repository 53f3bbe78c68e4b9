//! The plan as `plan --json` and `run --dry-run --json` print it. Keys are only ever added.

use serde_json::{Value, json};

use super::{Plan, PromptPlan, words};
use crate::domain::NanoUsd;

impl Plan {
    /// Returns the plan for a script.
    pub(crate) fn as_json(&self) -> Value {
        let prompts: Vec<Value> =
            self.prompts.iter().map(|plan| prompt(plan, self.ways.limit)).collect();
        json!({
            "rows": self.rows, "due": self.left().due(), "prompts": prompts,
            "open_batches": {"batches": self.open.batches, "requests": self.open.requests},
        })
    }
}

fn prompt(plan: &PromptPlan, limit: Option<u64>) -> Value {
    let (left, ways, sample) = (plan.left, plan.ways, &plan.sample);
    let usd = |cost: Option<NanoUsd>| cost.map(NanoUsd::usd);
    let cost = plan.cost();
    json!({
        "name": plan.prompt.name, "version": plan.prompt.version,
        "model": plan.prompt.spec.model.to_string(),
        "due": left.due(), "route": plan.choice.route.as_str(), "why": words::why(plan, limit),
        "reasons": {"new": left.new, "failed": left.failed, "truncated": left.truncated, "in_doubt": left.in_doubt},
        "not_due": {"answered": left.answered, "under_way": left.under_way, "held": left.held,
                    "failed": left.failed_for_good, "truncated": left.at_token_limit},
        "tokens": {"input": sample.input(ways.taken_up), "output": sample.output(ways.taken_up),
                   "output_at_most": sample.most_output(ways.taken_up)},
        "cost_usd": usd(cost.about), "cost_usd_at_most": usd(cost.most),
        "cost_realtime_usd": usd(plan.cost_by_calls().about),
        "cost_batch_usd": usd(plan.cost_in_batches().and_then(|cost| cost.about)),
        "taken_up": ways.taken_up, "in_batches": ways.in_batches, "batches": ways.batches,
        "by_calls": ways.calls, "waiting": ways.waiting,
    })
}
