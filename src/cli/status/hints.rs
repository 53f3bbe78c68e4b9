//! What to type next, from how the project stands.

use super::Status;
use crate::cli::text::count;
use crate::domain::FailureClass;
use crate::machine::batch::{Step, step};
use crate::store::FailureExample;

/// Returns the next commands to type, the most pressing first. While a run is on there are none.
pub(super) fn hints(status: &Status, program: &str) -> Vec<String> {
    if status.is_running() {
        return Vec::new();
    }
    let missing = missing(status, program);
    if !missing.is_empty() {
        return missing;
    }
    let mut hints = batches(status, program);
    hints.extend(due(status, program));
    hints.extend(stuck(status, program));
    if hints.is_empty() && status.left.under_way == 0 {
        hints.push(format!("`{program} export answers.csv` writes the table with its answers"));
    }
    hints
}

fn missing(status: &Status, program: &str) -> Vec<String> {
    let mut hints = Vec::new();
    if status.prompts.is_empty() {
        hints.push(format!("`{program} prompt add FILE` adds the prompt"));
    }
    if status.counts.rows == 0 {
        hints.push(format!("`{program} add FILE` adds rows"));
    }
    hints
}

/// Says what goes on, or lies ready, without a run that would collect it.
fn batches(status: &Status, program: &str) -> Vec<String> {
    let (mut there, mut ended, mut unsent) = ((0, 0), (0, 0), (0, 0));
    for batch in status.open_batches() {
        let (batches, requests) = match step(batch.status) {
            Step::FindBatch | Step::Look => &mut there,
            Step::Collect | Step::Rest => &mut ended,
            Step::Upload | Step::FindFile | Step::Create => &mut unsent,
        };
        *batches += 1;
        *requests += batch.requests;
    }
    let with = |(batches, requests): (u64, u64)| {
        format!("{} with {}", count(batches, "batch"), count(requests, "request"))
    };
    let mut hints = Vec::new();
    if there.0 > 0 {
        let (goes, their) = if there.0 == 1 { ("goes", "its") } else { ("go", "their") };
        hints.push(format!(
            "{} {goes} on at the provider: `{program} run` waits for {their} end and collects what came of {}",
            with(there),
            it(there.0)
        ));
        hints.push(format!(
            "`{program} run --no-wait` collects only what is ready, `{program} cancel --all` ends {} early",
            it(there.0)
        ));
    }
    if ended.0 > 0 {
        let has = if ended.0 == 1 { "has" } else { "have" };
        hints.push(format!(
            "{} {has} ended: `{program} run` collects {}",
            with(ended),
            it(ended.0)
        ));
    }
    if unsent.0 > 0 {
        let is = if unsent.0 == 1 { "is" } else { "are" };
        hints.push(format!(
            "{} {is} not at the provider yet: `{program} run` goes on with {}, `{program} cancel --all` drops {}",
            with(unsent),
            it(unsent.0),
            it(unsent.0)
        ));
    }
    hints
}

fn due(status: &Status, program: &str) -> Vec<String> {
    let doubts = status.left.in_doubt;
    let others = status.left.due() - doubts;
    let mut hints = Vec::new();
    if others > 0 {
        let due = these(others, "request", ["is", "are"]);
        hints.push(format!("{due} due: `{program} run` sends {}", it(others)));
    }
    if doubts > 0 {
        let doubtful = count(doubts, "request");
        let have = if doubts == 1 { "has" } else { "have" };
        hints.push(format!(
            "{doubtful} may have been sent and {have} no reply on record: `{program} run` sends {} again \
             (billed twice at worst)",
            it(doubts)
        ));
        hints.push(format!("`{program} run --in-doubt=hold` leaves what is in doubt as it is"));
    }
    hints
}

fn stuck(status: &Status, program: &str) -> Vec<String> {
    let left = &status.left;
    let mut hints = Vec::new();
    if left.failed_for_good > 0 {
        let failed = these(left.failed_for_good, "request", ["has", "have"]);
        hints.push(format!(
            "{failed} failed and {} not tried again without being asked: `{program} retry --failed` makes {} due",
            if left.failed_for_good == 1 { "is" } else { "are" },
            it(left.failed_for_good)
        ));
        hints.extend(example(status).map(|example| {
            format!(
                "`{program} show '#{}'` shows what was sent and what came back",
                example.position
            )
        }));
    }
    if left.at_token_limit > 0 {
        let cut = these(left.at_token_limit, "reply", ["was", "were"]);
        hints.push(format!(
            "{cut} cut at the token limit: `{program} retry --truncated --max-tokens N` asks for more"
        ));
    }
    hints
}

/// Returns a failure to look at: one that will not mend itself, if there is one.
fn example(status: &Status) -> Option<&FailureExample> {
    let is_final = |example: &&FailureExample| {
        FailureClass::parse(&example.class).is_some_and(|class| !class.is_retried())
    };
    status.examples.iter().find(is_final).or(status.examples.first())
}

/// Returns `1 request is`, `2 requests are`.
fn these(number: u64, one: &str, [singular, plural]: [&str; 2]) -> String {
    format!("{} {}", count(number, one), if number == 1 { singular } else { plural })
}

fn it(number: u64) -> &'static str {
    if number == 1 { "it" } else { "them" }
}
