//! How a run ended, in words and as an exit code.

use super::{budget, estimate};
use crate::cli::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::plan;
use crate::cli::prices::{PriceBook, PricesArg};
use crate::cli::progress::Progress;
use crate::cli::savings::{self, Savings};
use crate::cli::text::{count, them, thousands};
use crate::domain::{BatchId, BatchStatus, Event, FailureClass, HowEnded, Problem, RunId, Tally};
use crate::engine::{Clock, EngineError, Purpose};
use crate::machine::batch::may_be_billed;
use crate::machine::plan::{Left, Liveness};
use crate::store::Store;

/// Records how the run ended and says so.
pub(crate) fn finish(
    ran: Result<(Store, HowEnded, Tally), EngineError>,
    (run, purpose): (RunId, &Purpose),
    progress: &Progress,
    context: &Context,
) -> Result<Exit, Failure> {
    let (mut store, how, tally) = match ran {
        Ok(ran) => ran,
        Err(error) => {
            let words = error.to_string();
            if let Ok(mut store) = context.open() {
                // The run's own error is what counts.
                let _ = store.end_run(run, Clock::now(), "error", Some(&words));
            }
            return Err(error.into());
        }
    };
    let error = match &how {
        HowEnded::Stopped(problem) => Some(failure(problem, purpose, &store, context)),
        HowEnded::Done | HowEnded::SomeFailed | HowEnded::Waiting { .. } => None,
    };
    let ended = store.end_run(run, Clock::now(), how.as_str(), None);
    progress.tell(&Event::Finished { how: how.clone(), tally });
    match purpose {
        Purpose::Answer => context.out.say(&summary(tally)),
        Purpose::Cancel(batches) => context.out.say(&cancelled(&store, batches, tally)?),
    }
    tell_of_money(&store, tally, context)?;
    next_steps(&store, &how, context)?;
    tell_of_unrecorded(tally.unrecorded, context);
    ended?;
    match (error, how) {
        (Some(failure), _) => Err(failure),
        (None, HowEnded::Waiting { .. }) => Ok(Exit::Waiting),
        (None, HowEnded::SomeFailed) if *purpose == Purpose::Answer => Ok(Exit::SomeFailed),
        (None, HowEnded::SomeFailed | HowEnded::Done | HowEnded::Stopped(_)) => Ok(Exit::Done),
    }
}

fn summary(tally: Tally) -> String {
    let mut parts = vec![format!("{} answered", count(tally.answered + tally.shared, "request"))];
    let others = [
        (tally.shared, "of them by a reply to the same request"),
        (tally.failed, "failed"),
        (tally.truncated, "cut by the token limit"),
    ];
    for (number, what) in others {
        if number > 0 {
            parts.push(format!("{} {what}", thousands(number)));
        }
    }
    let batched = match tally.batched {
        0 => String::new(),
        batched => format!("{} put into batches, ", count(batched, "request")),
    };
    format!("{}; {batched}{}, {}", parts.join(", "), count(tally.sent, "call"), spent(tally))
}

fn spent(tally: Tally) -> String {
    let money = match tally.unpriced {
        0 => tally.cost.to_string(),
        _ => "cost unknown".to_owned(),
    };
    format!(
        "{} tokens in, {} out, {money}",
        thousands(tally.usage.input),
        thousands(tally.usage.output)
    )
}

/// Says what became of batches that were cancelled.
fn cancelled(store: &Store, batches: &[BatchId], tally: Tally) -> Result<String, Failure> {
    let (mut done, mut requests) = (0, 0);
    for id in batches {
        let batch = store.batch(*id)?;
        if let Some(batch) = batch.filter(|batch| batch.status == BatchStatus::Collected) {
            done += 1;
            requests += batch.requests;
        }
    }
    let all = count(batches.len() as u64, "batch");
    let batches = match done == batches.len() {
        true => all,
        false => format!("{done} of {all}"),
    };
    Ok(format!(
        "{batches} cancelled and collected; {} of {} answered, {}",
        thousands(tally.answered),
        count(requests, "request"),
        spent(tally)
    ))
}

/// Says what the project has spent in all, where that is not all that the run has told, and what was saved.
fn tell_of_money(store: &Store, tally: Tally, context: &Context) -> Result<(), Failure> {
    let spending = store.spending()?;
    let saved = Savings::of(store, &PriceBook::load(store, &PricesArg::default())?)?.words();
    let is_all_said = spending.cost == tally.cost
        && spending.reserved.0 == 0
        && spending.perhaps.attempts == 0
        && saved.is_none();
    if spending.attempts > 0 && !is_all_said {
        let saved = saved.map_or_else(String::new, |saved| format!("; saved {saved}"));
        context.out.say(&format!("in all: {}{saved}", savings::spent(&spending)));
    }
    Ok(())
}

fn next_steps(store: &Store, how: &HowEnded, context: &Context) -> Result<(), Failure> {
    let left = plan::left(store, Liveness::Idle)?;
    let program = context.program();
    if left.due() > 0 {
        let still = format!("{} still due", thousands(left.due()));
        match how {
            // Why, and that it goes on from here, is said last.
            HowEnded::Stopped(_) => context.out.say(&still),
            HowEnded::Done | HowEnded::SomeFailed | HowEnded::Waiting { .. } => {
                context.out.hint(&format!("{still}: `{program} run` goes on"));
            }
        }
    } else if matches!(how, HowEnded::Done) {
        context
            .out
            .hint(&format!("`{program} export answers.csv` writes the table with its answers"));
    }
    tell_of_batches(store, context)?;
    stuck_hints(&left, context);
    Ok(())
}

/// Says how many replies were lost to a disk that did not take them.
fn tell_of_unrecorded(calls: u64, context: &Context) {
    if calls > 0 {
        let (program, it) = (context.program(), them(calls));
        context.out.warn(&format!(
            "the outcome of {} could not be put on record and is lost",
            count(calls, "call")
        ));
        context.out.hint(&format!("`{program} run` sends {it} again, which may be billed twice"));
        context.out.hint(&format!("`{program} run --in-doubt=hold` leaves {it} as in doubt"));
    }
}

/// Says which batches go on at the provider without us, and how to go on with them.
fn tell_of_batches(store: &Store, context: &Context) -> Result<(), Failure> {
    let program = context.program();
    let open = store.open_batches()?;
    let going_on: Vec<_> = open.iter().filter(|batch| may_be_billed(batch.status)).collect();
    if !going_on.is_empty() {
        let book = PriceBook::load(store, &PricesArg::default())?;
        let requests = going_on.iter().map(|batch| batch.requests).sum();
        let names: Vec<String> = going_on
            .iter()
            .take(NAMED)
            .map(|batch| match &batch.provider_id {
                Some(id) => format!("{} ({id})", batch.id),
                None => format!("{} (its creation is not confirmed)", batch.id),
            })
            .collect();
        let more = match going_on.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {} more", thousands(more as u64)),
        };
        let [go_on, they_answer, they, they_bring] = match going_on.len() {
            1 => ["goes on at the provider and is", "it answers", "it", "it brings"],
            _ => ["go on at the provider and are", "they answer", "they", "they bring"],
        };
        context.out.say(&format!(
            "{} with {} {go_on} billed for what {they_answer}: {}{more}",
            count(going_on.len() as u64, "batch"),
            count(requests, "request"),
            names.join(", ")
        ));
        if let Some(cost) = estimate::of_batches(store, &going_on, &book)? {
            context.out.say(&format!("{they} may cost about {cost}"));
        }
        context.out.hint(&format!(
            "`{program} run` collects what {they_bring}, `{program} cancel --all` ends {}",
            them(going_on.len() as u64)
        ));
    }
    let unsent = open.len() - going_on.len();
    if unsent > 0 {
        context.out.hint(&format!(
            "{} more not at the provider, or not read to the end: `{program} run` goes on with {}",
            count(unsent as u64, "batch"),
            them(unsent as u64)
        ));
    }
    Ok(())
}

/// So many batches are named one by one.
const NAMED: usize = 5;

fn failure(problem: &Problem, purpose: &Purpose, store: &Store, context: &Context) -> Failure {
    let program = context.program();
    let goes_on = match purpose {
        Purpose::Answer => format!("`{program} run` goes on from here"),
        Purpose::Cancel(_) => format!(
            "`{program} status` shows which batches are not cancelled yet, `{program} cancel` tries again"
        ),
    };
    match problem {
        Problem::Interrupted => {
            let mut failure = Failure::error("interrupted").hint(goes_on);
            failure.exit = Exit::Interrupted;
            failure
        }
        Problem::Budget { ceiling, counted, needed } => {
            budget::used_up((*ceiling, *counted, *needed), store, &program)
        }
        Problem::Record { error } => {
            Failure::error(format!("{} cannot be written", store.path().display()))
                .caused_by(&Words(error.clone()))
                .hint(format!("mend that first; {goes_on}"))
        }
        Problem::EveryRequestFails { prompt, class, requests, message } => Failure::error(format!(
            "the first {} of prompt {prompt} failed alike ({class}), and none was answered",
            count(*requests, "request")
        ))
        .caused_by(&Words(message.clone()))
        .hint(format!(
            "`{program} plan` shows what is sent, `{program} show '#1' --reply` what came back"
        ))
        .hint(format!(
            "`{program} prompt add FILE --name {prompt}` makes the prompt's next version"
        )),
        Problem::CanaryRefused { prompt, class, message } => Failure::error(format!(
            "the provider refused the request that went ahead of the first batch of prompt {prompt} ({class})"
        ))
        .caused_by(&Words(message.clone()))
        .hint(format!("`{program} plan` shows what is sent; no batch was made"))
        .hint(format!("`{program} prompt add FILE --name {prompt}` makes the prompt's next version"))
        .hint(format!("`{program} run --no-canary` sends batches all the same")),
        Problem::NoBatchApi { model, message } => {
            Failure::error(format!("the server of {model} has no Batch API"))
                .caused_by(&Words(message.clone()))
                .hint(format!("`{program} run --route realtime` sends by calls"))
                .hint("check the base URL: most end in /v1")
        }
        Problem::BatchesFail { model, batches, message } => Failure::error(format!(
            "{} of {model} in a row failed as a whole",
            count(u64::from(*batches), "batch")
        ))
        .caused_by(&Words(message.clone()))
        .hint(format!("`{program} run --route realtime` sends what is due by calls")),
        Problem::BatchInDoubt { batch, message } => Failure::error(format!(
            "batch {} may have been created, and the provider's batches cannot be listed",
            batch.map_or_else(|| "?".to_owned(), |batch| batch.to_string())
        ))
        .caused_by(&Words(message.clone()))
        .hint("nothing of it is sent again before it is known not to be there")
        .hint(format!("`{program} run` looks again")),
        Problem::BatchUnknown { batch, provider_id } => {
            let id = batch.map_or_else(|| "?".to_owned(), |batch| batch.to_string());
            Failure::error(format!(
                "the provider knows neither batch {id} ({provider_id}) nor its input file"
            ))
            .hint("check the API key: batches are seen with keys of the same project only")
            .hint(format!("`{program} cancel {id}` gives it up: its requests are due again, and may be billed twice"))
        }
        Problem::Provider { class, message } => provider_failure(*class, program.as_str())
            .caused_by(&Words(message.clone()))
            .hint(goes_on),
    }
}

fn provider_failure(class: FailureClass, program: &str) -> Failure {
    match class {
        FailureClass::Unauthorized => Failure::error("the provider does not accept the API key")
            .hint("check the key in the environment or in .env, and that it belongs to this provider"),
        FailureClass::Forbidden => Failure::error("the provider does not allow this key to do this")
            .hint("check the key's project, permissions and region with the provider")
            .hint(format!("if it may not use batches, `{program} run --route realtime` sends by calls")),
        FailureClass::QuotaExhausted => {
            Failure::error("the account has no quota left, or has met its spending limit")
                .hint("add credit or raise the limit with the provider; no row has lost an attempt")
        }
        FailureClass::ModelNotFound => Failure::error("the provider does not know the model")
            .hint(format!(
                "`{program} prompt list` shows the models; `{program} prompt add FILE --name NAME --model MODEL` changes one"
            )),
        FailureClass::EndpointNotFound => Failure::error("the server has no such endpoint")
            .hint("check the base URL: most end in /v1; `overnight run --base-url URL` tries another one"),
        _ => Failure::error("nobody answers at the server's address")
            .hint("check the base URL and the network; `overnight run --base-url URL` tries another one"),
    }
}

/// Words from elsewhere, as a cause.
#[derive(Debug)]
struct Words(String);

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Words {}

pub(super) fn stuck_hints(left: &Left, context: &Context) {
    let program = context.program();
    let hints = [
        (
            left.failed_for_good,
            "failed",
            format!("`{program} retry --failed` makes {} due again", them(left.failed_for_good)),
        ),
        (
            left.at_token_limit,
            "cut by the token limit",
            format!(
                "`{program} retry --truncated --max-tokens N` gives {} more room",
                them(left.at_token_limit)
            ),
        ),
        (
            left.held,
            "in doubt",
            format!("`{program} retry --in-doubt` makes {} due again", them(left.held)),
        ),
    ];
    for (number, what, hint) in hints {
        if number > 0 {
            context.out.hint(&format!("{} {what}: {hint}", thousands(number)));
        }
    }
}
