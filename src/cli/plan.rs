//! `overnight plan`: what is left, by which way it would go, what it would take, and what the requests look like.
//!
//! `run` and `run --dry-run` ask the same code, so what is told here is what they do. Nothing is sent.

mod constant;
mod estimate;
mod expect;
mod json;
mod look;
mod page;
#[cfg(test)]
mod tests;
mod time;
mod warn;
mod ways;
mod wish;
mod words;

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::estimate::Cost;
pub(crate) use self::estimate::Extent;
use self::time::Deadline;
use self::warn::Warning;
pub(crate) use self::ways::PromptPlan;
pub(crate) use self::wish::{InDoubt, QUIETLY, RouteWish, Speed, Ways, Wish};
use super::Context;
use super::failure::{Exit, Failure};
use super::prices::{PriceBook, PricesArg};
use super::run::deadline;
use super::text::whole;
use crate::domain::UnixMs;
use crate::engine::Clock;
use crate::machine::plan::{Left, Liveness};
use crate::machine::request::InDoubtPolicy;
use crate::machine::route::HasBatches;
use crate::store::{Store, StoreError};

/// Show what a run would do, without doing it: what is due, by which way it goes, tokens, cost, examples.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight plan
  overnight plan --route batch             what batches would cost, and how many they would be
  overnight plan --limit 100 --examples 10
  overnight plan --exact                   counts every request, not a sample of a large table
  overnight plan --rpm 500 --by 08:00      how long it takes, and whether it is done by then
  overnight plan --json

Input is counted with the model's own vocabulary where the program has it (OpenAI's models), and
put right by what the answers on file were billed; of a large table a sample is counted, and the
page says so. Output, retries, cut replies and what is cached are those of the prompt's answers so
far; where there is none, the output is a guess that is called one. `overnight run --sample 20` is
enough to learn from.")]
pub(crate) struct Args {
    /// How many rendered requests to show.
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true, value_parser = whole::<usize>(0, None))]
    examples: usize,
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    speed: Speed,
    #[command(flatten)]
    prices: PricesArg,
    /// Say whether all can be done by TIME, which is `08:00` (the next one), `2h`, or a timestamp.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    by: Option<String>,
    /// Count every request that is due, however many they are.
    #[arg(long)]
    exact: bool,
    /// Leave requests in doubt out, as `run --in-doubt=hold` does.
    #[arg(long, value_name = "POLICY", default_value = "resend")]
    in_doubt: InDoubt,
}

/// What a run would do.
pub(crate) struct Plan {
    /// Live rows.
    rows: u64,
    pub(crate) prompts: Vec<PromptPlan>,
    pub(crate) open: OpenBatches,
    ways: Ways,
    liveness: Liveness,
    /// By when all is to be done, where somebody asked.
    by: Option<Deadline>,
    /// What is to be said of each prompt's requests, where somebody asked.
    details: Vec<Details>,
}

/// What a person should know of a prompt's requests before a run.
#[derive(Default)]
struct Details {
    warnings: Vec<Warning>,
    /// Of the row with the longest request.
    longest_key: Option<String>,
}

/// The batches that earlier runs left, with their requests: those are not due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenBatches {
    pub(crate) batches: u64,
    pub(crate) requests: u64,
}

impl Plan {
    /// Plans what is left of every live prompt.
    pub(crate) fn make(store: &Store, wish: &Wish<'_>, context: &Context) -> Result<Self, Failure> {
        let open = store.open_batches()?;
        Ok(Self {
            rows: store.live_rows()?,
            prompts: ways::plans(store, wish, &open, context)?,
            by: None,
            details: Vec::new(),
            open: OpenBatches {
                batches: open.len() as u64,
                requests: open.iter().map(|batch| batch.requests).sum(),
            },
            ways: wish.ways,
            liveness: wish.liveness,
        })
    }

    /// Looks whether all can be done by a time, and at what a person should know before a run.
    fn look_closer(
        &mut self,
        store: &Store,
        (by, now): (Option<UnixMs>, UnixMs),
        prices: &PriceBook,
    ) -> Result<(), Failure> {
        self.by = by.map(|by| Deadline::new(&self.prompts, (by, now)));
        for plan in &self.prompts {
            let mut details = Details::default();
            if plan.left.due() > 0 {
                details.warnings = warn::warnings(plan, prices, now);
                if let Some((_, spot)) = plan.sample.notes.longest {
                    details.longest_key = store.key_of(spot.row)?;
                }
            }
            self.details.push(details);
        }
        Ok(())
    }

    /// Sums what is left over all prompts.
    pub(crate) fn left(&self) -> Left {
        let mut total = Left::default();
        for plan in &self.prompts {
            total += plan.left;
        }
        total
    }

    /// Sums what would be spent; `None` where a price is not known.
    pub(crate) fn cost(&self) -> Cost {
        self.prompts.iter().fold(Cost::NOTHING, |sum, plan| sum.and(plan.cost()))
    }

    fn sum(&self, of: impl Fn(&PromptPlan) -> u64) -> u64 {
        self.prompts.iter().map(of).sum()
    }

    /// Refuses what cannot be done as it was asked: batches that were asked for by name are not quietly
    /// something else.
    pub(crate) fn must_have_batches(&self) -> Result<(), Failure> {
        let lacks = |plan: &&PromptPlan| plan.left.due() > 0 && plan.has_batches == HasBatches::No;
        match self.prompts.iter().find(lacks) {
            Some(plan) if self.ways.route == RouteWish::Batch => Err(Failure::usage(format!(
                "--route batch: overnight knows no batches of the provider {} (prompt {})",
                plan.prompt.spec.model.provider, plan.prompt.name
            ))
            .hint("`--route auto` takes batches where there are some, and calls elsewhere")),
            _ => Ok(()),
        }
    }
}

/// Counts what is left over all live prompts, by the rule that `run` goes by.
pub(crate) fn left(store: &Store, liveness: Liveness) -> Result<Left, StoreError> {
    let prompts = store.live_prompts()?;
    let mut all = Left::default();
    for left in store.left(&prompts, InDoubtPolicy::Resend, liveness)? {
        all += left;
    }
    Ok(all)
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let store = context.open_to_read()?;
    store.as_of_now(|store| tell(args, store, context))
}

fn tell(args: Args, store: &Store, context: &Context) -> Result<Exit, Failure> {
    let by = args.by.as_deref().map(deadline).transpose()?;
    let book = PriceBook::load(store, &args.prices)?;
    let bar = Mutex::new(if args.exact { bar(store, context)? } else { None });
    let on_look = |looked| {
        if let Ok(Some(bar)) = bar.lock().as_deref() {
            bar.set_position(looked);
        }
    };
    let wish = Wish {
        ways: args.ways,
        in_doubt: args.in_doubt.into(),
        liveness: context.liveness(store)?,
        base_url: None,
        canary: true,
        prices: &book,
        speed: args.speed,
        look: (if args.exact { Extent::All } else { Extent::Many }, &on_look),
    };
    let plan = Plan::make(store, &wish, context);
    if let Ok(Some(bar)) = bar.lock().as_deref() {
        bar.finish_and_clear();
    }
    let mut plan = plan?;
    plan.must_have_batches()?;
    plan.look_closer(store, (by, Clock::now()), &book)?;
    if context.out.is_json() {
        context.out.json(&plan.as_json())?;
        return Ok(Exit::Done);
    }
    context.out.data(&page::page(&plan, (store, args.examples, wish.in_doubt), context)?)?;
    next_step(&plan, context);
    Ok(Exit::Done)
}

/// Shows how far the counting is on a terminal.
fn bar(store: &Store, context: &Context) -> Result<Option<ProgressBar>, Failure> {
    use std::io::IsTerminal;
    if context.out.is_quiet() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    let bar = ProgressBar::with_draw_target(
        Some(store.live_rows()?),
        ProgressDrawTarget::stderr_with_hz(8),
    );
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} requests counted") {
        bar.set_style(style.progress_chars("━━─"));
    }
    Ok(Some(bar))
}

fn next_step(plan: &Plan, context: &Context) {
    let program = context.program();
    let due = plan.left().due();
    let hint = match (plan.liveness, plan.open.batches) {
        _ if plan.rows == 0 => format!("`{program} add FILE` adds rows"),
        _ if plan.prompts.is_empty() => {
            format!("`{program} prompt add FILE --model MODEL` adds a prompt")
        }
        (Liveness::Running, _) => {
            format!("a run is on: `{program} status --watch` shows how it goes")
        }
        (Liveness::Idle, _) if due > 20 => {
            format!("`{program} run --sample 20` tries 20 rows at random, `{program} run` does all")
        }
        (Liveness::Idle, _) if due > 0 => format!("`{program} run` does it"),
        (Liveness::Idle, 0) => return,
        (Liveness::Idle, _) => format!(
            "`{program} run` waits for the open batches and collects them, `{program} run --no-wait` collects what is ready"
        ),
    };
    context.out.hint(&hint);
}
