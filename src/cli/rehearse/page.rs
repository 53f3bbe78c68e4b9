//! The report as a person reads it.

use super::problems::Trouble;
use super::report::{Report, Sum};
use super::scratch::Scratch;
use crate::cli::text::{count, duration, moment, one_line, size, thousands};
use crate::cli::{Context, program};
use crate::domain::NanoUsd;
use crate::store::RunBatch;

/// The characters of a provider's words that are shown.
const WORDS: usize = 200;

/// Returns the whole page.
pub(super) fn page(report: &Report, context: &Context) -> String {
    let mut lines = vec![head(report, context)];
    if report.before.is_running {
        lines.push("a run is on: this is the rest that it had left at that moment".to_owned());
    }
    if let (batches @ 1.., requests) = report.before.aside {
        lines.push(format!(
            "{} of earlier runs with {} left out: the provider has them",
            count(batches, "batch"),
            count(requests, "request")
        ));
    }
    lines.push(String::new());
    lines.extend(section("requests", requests(report)));
    if report.noted.due > 0 {
        lines.extend(section("batches", batches(report)));
        lines.extend(section("duration", time(report)));
        let usage = report.usage();
        lines.push(field(
            "tokens",
            &format!("{} in, {} out", thousands(usage.input), thousands(usage.output)),
        ));
        lines.push(field("cost", &cost(report, context)));
    }
    if report.prompts.len() > 1 {
        for one in &report.prompts {
            lines.push(field(&one.prompt.name, &of_prompt(&one.calls, &one.in_batches)));
        }
    }
    if !report.noted.remarks.is_empty() || !report.noted.again.is_empty() {
        lines.push("\non the way".to_owned());
        lines.extend(report.noted.remarks.iter().map(|remark| format!("  {remark}")));
        let again = report
            .noted
            .again
            .iter()
            .map(|(what, number)| format!("{} {what}", thousands(*number)));
        let again: Vec<String> = again.collect();
        if !again.is_empty() {
            lines.push(format!("  tried again: {}", again.join(", ")));
        }
    }
    if !report.troubles.is_empty() {
        lines.push("\nproblems".to_owned());
        report.troubles.iter().for_each(|one| lines.extend(trouble(one, context)));
    }
    for assumed in report.assumed.iter().filter(|_| report.noted.due > 0) {
        lines.push(format!("\ntaken to be so: {} at {}", assumed.model, assumed.server));
        lines.extend(assumed.lines().iter().map(|(name, words)| field(name, words)));
    }
    lines.join("\n") + "\n"
}

fn head(report: &Report, context: &Context) -> String {
    format!(
        "{} as of {}: {}; rehearsed in {} on a copy of {}, nothing was sent",
        context.project.display(),
        moment(report.before.as_of),
        count(report.before.rows, "row"),
        duration(report.took),
        size(report.before.copy_bytes)
    )
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<9} {value}")
}

fn section(name: &str, values: Vec<String>) -> Vec<String> {
    let named = |(index, value): (usize, &String)| field(if index == 0 { name } else { "" }, value);
    values.iter().enumerate().map(named).collect()
}

fn requests(report: &Report) -> Vec<String> {
    let noted = &report.noted;
    if noted.due == 0 {
        return vec!["none is due".to_owned()];
    }
    let ways = [
        (report.in_batches.answered, "in batches"),
        (report.calls.answered, "by calls"),
        (noted.shared, "by the reply to an equal request"),
    ];
    let ways: Vec<String> = ways
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, way)| format!("{} {way}", thousands(*number)))
        .collect();
    let answered = match (noted.answered + noted.shared, ways.is_empty()) {
        (answered, true) => format!("{} answered", thousands(answered)),
        (answered, false) => format!("{} answered: {}", thousands(answered), ways.join(", ")),
    };
    let ends = [
        (noted.failed, "failed"),
        (noted.truncated, "cut by the token limit"),
        (report.left(), "not done"),
    ];
    let ends = ends.iter().filter(|(number, _)| *number > 0);
    let ends: Vec<String> =
        ends.map(|(number, end)| format!("{} {end}", thousands(*number))).collect();
    let mut lines = vec![format!("{} due", thousands(noted.due)), answered];
    if !ends.is_empty() {
        lines.push(ends.join(", "));
    }
    lines
}

fn batches(report: &Report) -> Vec<String> {
    let (all, refused): (Vec<&RunBatch>, Vec<&RunBatch>) =
        report.batches.iter().partition(|batch| batch.was_worked_on());
    let refused = match refused.len() as u64 {
        0 => None,
        refused => Some(format!("{} refused, or failed as a whole", count(refused, "batch"))),
    };
    let sizes = all.iter().map(|batch| batch.requests);
    let (Some(smallest), Some(largest)) = (sizes.clone().min(), sizes.max()) else {
        return vec![refused.unwrap_or_else(|| "none".to_owned())];
    };
    let of = match smallest == largest {
        true => count(largest, "request"),
        false => format!("{} to {}", thousands(smallest), count(largest, "request")),
    };
    let waves = match report.waves {
        0 | 1 => String::new(),
        waves => format!(", {} of them one after another", thousands(waves)),
    };
    let mut lines = vec![format!("{} of {of}{waves}", thousands(all.len() as u64))];
    lines.extend(refused);
    lines
}

fn time(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{}; started now, done at {}",
        duration(report.duration),
        moment(report.done_at)
    )];
    if let Some(half) = report.half {
        lines.push(format!("half of the answers are there after {}", duration(half)));
    }
    lines
}

fn cost(report: &Report, context: &Context) -> String {
    let Some(sum) = report.cost() else {
        let program = context.program();
        return format!("unknown: a model has no price; `{program} plan` says which");
    };
    match (report.in_batches.attempts, report.calls.attempts) {
        (1.., 1..) => {
            format!("{sum}: {} in batches, {} by calls", report.in_batches.cost, report.calls.cost)
        }
        (1.., 0) => format!("{sum}, in batches"),
        (0, _) => format!("{sum}, by calls"),
    }
}

fn of_prompt(calls: &Sum, in_batches: &Sum) -> String {
    let cost = calls.cost().zip(in_batches.cost()).map(|(calls, batches)| calls + batches);
    let cost = cost.map_or_else(|| "cost unknown".to_owned(), |cost: NanoUsd| cost.to_string());
    format!(
        "{} in batches, {} by calls, {cost}",
        thousands(in_batches.requests),
        thousands(calls.requests)
    )
}

fn trouble(one: &Trouble, context: &Context) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match &one.prompt {
        Some(prompt) => {
            let named: Vec<String> =
                one.positions.iter().map(|position| format!("#{position}")).collect();
            let more = if one.requests > named.len() as u64 { ", …" } else { "" };
            format!(
                "  {} of prompt {prompt} {}: row {}{more}",
                count(one.requests, "request"),
                one.what,
                named.join(", ")
            )
        }
        None => format!("  {}", one.what),
    });
    if !one.message.is_empty() {
        lines.push(format!("    {}", one_line(&one.message, WORDS)));
    }
    if !one.hint.is_empty() {
        lines.push(format!("    {}", one.hint.replace("PROGRAM", &context.program())));
    }
    lines
}

/// Says what to type next.
pub(super) fn next_steps(report: &Report, (scratch, is_kept): (&Scratch, bool), context: &Context) {
    if is_kept {
        let file = scratch.file();
        context.out.hint(&format!(
            "`{0} status` and `{0} show '#1'` look into the copy; its answers are made up, so do not run it",
            program(file)
        ));
    }
    if report.noted.answered > 0 {
        context.out.hint(&format!("`{} run` does it, with the same options", context.program()));
    }
}
