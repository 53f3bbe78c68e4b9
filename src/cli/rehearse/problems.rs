//! The problems that a rehearsal met, each with what to type next.

use super::report::Facts;
use crate::cli::text::count;
use crate::domain::{FailureClass, HowEnded, Problem};

/// A problem, and what to do about it.
pub(super) struct Trouble {
    /// A word for it: a failure class, or what stopped the run.
    pub(super) kind: &'static str,
    /// The prompt that has it, where it is one's.
    pub(super) prompt: Option<String>,
    /// Requests that have it; none where it is of the whole run.
    pub(super) requests: u64,
    /// The first of their rows.
    pub(super) positions: Vec<i64>,
    /// What happened, as a clause without its subject where requests have it.
    pub(super) what: String,
    /// What the provider, or the template, said.
    pub(super) message: String,
    /// What to type, or what to change; PROGRAM stands for the program.
    pub(super) hint: String,
}

/// Returns the problems, what stopped the run first.
pub(super) fn troubles(facts: &Facts) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    if facts.has_stalled {
        troubles.push(of_the_run(
            "no_end",
            "the run would not end: requests wait or are tried again, and none comes to its end"
                .to_owned(),
            String::new(),
            "what was tried again, and the limits below, say why",
        ));
    } else if let HowEnded::Stopped(problem) = &facts.how {
        troubles.push(stopped(problem));
    }
    for ((prompt, kind), found) in &facts.noted.problems {
        let (what, hint) = FailureClass::ALL
            .into_iter()
            .find(|class| class.as_str() == *kind)
            .map_or_else(|| cut(prompt), |class| failed(class, prompt));
        troubles.push(Trouble {
            kind,
            prompt: Some(prompt.clone()),
            requests: found.count,
            positions: found.positions.clone(),
            what,
            message: found.message.clone(),
            hint,
        });
    }
    troubles
}

fn of_the_run(kind: &'static str, what: String, message: String, hint: &str) -> Trouble {
    let (prompt, requests, positions) = (None, 0, Vec::new());
    Trouble { kind, prompt, requests, positions, what, message, hint: hint.to_owned() }
}

/// Says what stopped the run, and what would.
fn stopped(problem: &Problem) -> Trouble {
    match problem {
        Problem::Interrupted => {
            of_the_run("interrupted", "it was interrupted".to_owned(), String::new(), "")
        }
        Problem::Provider { class, message } => of_the_run(
            class.as_str(),
            format!("the run would be stopped by the provider ({class})"),
            message.clone(),
            "`PROGRAM plan --examples 1` shows what is sent",
        ),
        Problem::EveryRequestFails { prompt, class, requests, message } => of_the_run(
            class.as_str(),
            format!(
                "the run would be stopped: the first {} of prompt {prompt} failed alike ({class})",
                count(*requests, "request")
            ),
            message.clone(),
            "`PROGRAM plan --examples 1` shows what is sent, `PROGRAM prompt add FILE --name NAME` makes the next version",
        ),
        Problem::CanaryRefused { prompt, class, message } => of_the_run(
            class.as_str(),
            format!(
                "the run would be stopped: the request that goes ahead of the first batch of prompt {prompt} would be refused ({class})"
            ),
            message.clone(),
            "`PROGRAM plan --examples 1` shows what is sent, `PROGRAM prompt add FILE --name NAME` makes the next version",
        ),
        Problem::NoBatchApi { model, message } => of_the_run(
            "no_batch_api",
            format!("the server of {model} has no batches"),
            message.clone(),
            "`PROGRAM run --route realtime` sends by calls",
        ),
        Problem::BatchesFail { model, batches, message } => of_the_run(
            "batches_fail",
            format!(
                "the run would be stopped: {} of {model} in a row failed as a whole",
                count(u64::from(*batches), "batch")
            ),
            message.clone(),
            "`PROGRAM run --route realtime` sends what is due by calls",
        ),
        Problem::BatchInDoubt { message, .. } => of_the_run(
            "batch_in_doubt",
            "the run would be stopped by a batch that may have been created, as batches cannot be listed".to_owned(),
            message.clone(),
            "`PROGRAM run` would look again",
        ),
        Problem::BatchUnknown { provider_id, .. } => of_the_run(
            "batch_unknown",
            format!("the run would be stopped by a batch that the provider has forgotten ({provider_id})"),
            String::new(),
            "`PROGRAM cancel BATCH` would give it up",
        ),
        Problem::Budget { ceiling, counted, needed } => of_the_run(
            "budget",
            format!("the budget of {ceiling} would not be enough: {counted} count against it"),
            needed.map_or_else(String::new, |needed| {
                format!("the next request may cost up to {needed}")
            }),
            "`PROGRAM rehearse --max-cost USD` tries another one",
        ),
        Problem::Record { error } => of_the_run(
            "record",
            "the copy cannot be written".to_owned(),
            error.clone(),
            "`TMPDIR=DIR PROGRAM rehearse` makes it on another disk",
        ),
    }
}

fn cut(prompt: &str) -> (String, String) {
    (
        "would be cut by the token limit".to_owned(),
        format!(
            "`max_tokens: N` or `max_tokens_limit: N` at the top of the prompt's file gives them room; `PROGRAM prompt add FILE --name {prompt}` makes the next version"
        ),
    )
}

/// Says what would happen to requests that fail in some way, and what to do about it.
fn failed(class: FailureClass, prompt: &str) -> (String, String) {
    let next = format!("`PROGRAM prompt add FILE --name {prompt}` makes the prompt's next version");
    let retry = "`PROGRAM retry --failed` after the run makes them due again".to_owned();
    let (what, hint) = match class {
        FailureClass::RenderFailed => ("cannot be rendered", next),
        FailureClass::ContextTooLong => (
            "are too long for the model",
            "shorten those rows, or name a model with a larger context".to_owned(),
        ),
        FailureClass::RequestTooLarge => (
            "are larger than the server takes",
            "shorten those rows, or have the limit raised that is named".to_owned(),
        ),
        FailureClass::InvalidRequest => (
            "would be refused as they are",
            format!("`PROGRAM plan --examples 1` shows what is sent; {next}"),
        ),
        FailureClass::SchemaUnsupported => (
            "would be refused for their JSON Schema",
            format!("`structured_outputs: false` asks in words; {next}"),
        ),
        FailureClass::ContentFiltered => ("would be withheld by the provider's filter", retry),
        FailureClass::Refused => ("would be declined by the model", retry),
        FailureClass::InvalidAnswer => ("would get answers that do not fit", retry),
        FailureClass::MalformedReply => ("would get replies that cannot be read", retry),
        FailureClass::RateLimited
        | FailureClass::Overloaded
        | FailureClass::ServerError
        | FailureClass::Timeout
        | FailureClass::Connection
        | FailureClass::Unreachable
        | FailureClass::BatchExpired
        | FailureClass::BatchCancelled
        | FailureClass::BatchFailed
        | FailureClass::MissingFromBatch => ("would fail as often as they may be tried", retry),
        FailureClass::QuotaExhausted
        | FailureClass::Unauthorized
        | FailureClass::Forbidden
        | FailureClass::ModelNotFound
        | FailureClass::EndpointNotFound => ("would be refused", retry),
    };
    (format!("{what} ({class})"), hint)
}
