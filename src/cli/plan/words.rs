//! The plan in short: why a way was chosen, and all of it in one sentence.

use super::{Plan, PromptPlan};
use crate::cli::text::{count, thousands};
use crate::machine::route::Why;

/// Returns why a prompt's requests go by their route, as a clause that goes on from "because".
pub(super) fn why(plan: &PromptPlan, limit: Option<u64>) -> String {
    match (plan.choice.why, limit) {
        (Why::TooFew { due, least }, Some(limit)) if due == limit => format!(
            "--limit takes up {}, and a batch is for {least} or more",
            count(due, "request")
        ),
        (why, _) => why.to_string(),
    }
}

impl Plan {
    /// Returns what would be sent, by which way and for what: `600 requests, 599 in about 1 batch and 1 by a
    /// call, for about $0.02`.
    pub(crate) fn in_short(&self) -> String {
        let in_batches = self.sum(|plan| plan.ways.in_batches);
        let calls = self.sum(|plan| plan.ways.calls);
        let waiting = self.sum(|plan| plan.ways.waiting);
        let sent = in_batches + calls + waiting;
        let batches = count(self.sum(|plan| plan.ways.new_batches), "batch");
        let ways = [
            (in_batches, format!("in about {batches}")),
            (waiting, "in later ones as the queue drains".to_owned()),
            (calls, if calls == 1 { "by a call" } else { "by calls" }.to_owned()),
        ];
        let ways: Vec<(u64, String)> = ways.into_iter().filter(|(number, _)| *number > 0).collect();
        let mut words = count(sent, "request");
        if let [(_, only)] = ways.as_slice() {
            words.push_str(&format!(" {only}"));
        } else if let Some(((number, last), others)) = ways.split_last() {
            let others: Vec<String> = others
                .iter()
                .map(|(number, way)| format!("{} {way}", thousands(*number)))
                .collect();
            words.push_str(&format!(", {} and {} {last}", others.join(", "), thousands(*number)));
        }
        words.push_str(&match self.cost().about {
            Some(cost) => format!(", for about {cost}"),
            None => ", at an unknown price".to_owned(),
        });
        let refused = self.sum(|plan| plan.ways.taken_up) - sent;
        if refused > 0 {
            let find = if refused == 1 { "finds" } else { "find" };
            words.push_str(&format!("; {} {find} no room in batches", thousands(refused)));
        }
        words
    }
}
