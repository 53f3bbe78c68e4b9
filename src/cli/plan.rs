//! `overnight plan`: what is left, by which way it would go, what it would take, and what the requests look like.
//!
//! `run` and `run --dry-run` ask the same code, so what is told here is what they do. Nothing is sent.

mod estimate;
mod json;
mod page;
#[cfg(test)]
mod tests;
mod ways;
mod wish;
mod words;

use self::estimate::Cost;
pub(crate) use self::ways::PromptPlan;
pub(crate) use self::wish::{InDoubt, RouteWish, Ways, Wish};
use super::Context;
use super::failure::{Exit, Failure};
use super::prices::{PriceBook, PricesArg};
use super::text::whole;
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
  overnight plan --json

The estimate counts the input of the first rows that are due; for the output it takes the average
of the answers on record, and where there is none, a guess that it names.")]
pub(crate) struct Args {
    /// How many rendered requests to show.
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true, value_parser = whole::<usize>(0, None))]
    examples: usize,
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    prices: PricesArg,
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
            open: OpenBatches {
                batches: open.len() as u64,
                requests: open.iter().map(|batch| batch.requests).sum(),
            },
            ways: wish.ways,
            liveness: wish.liveness,
        })
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
    let book = PriceBook::load(store, &args.prices)?;
    let wish = Wish {
        ways: args.ways,
        in_doubt: args.in_doubt.into(),
        liveness: context.liveness(store)?,
        base_url: None,
        canary: true,
        prices: &book,
    };
    let plan = Plan::make(store, &wish, context)?;
    plan.must_have_batches()?;
    if context.out.is_json() {
        context.out.json(&plan.as_json())?;
        return Ok(Exit::Done);
    }
    context.out.data(&page::page(&plan, (store, args.examples, wish.in_doubt), context)?)?;
    next_step(&plan, context);
    Ok(Exit::Done)
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
            format!("`{program} run --limit 20` tries the first 20, `{program} run` does all")
        }
        (Liveness::Idle, _) if due > 0 => format!("`{program} run` does it"),
        (Liveness::Idle, 0) => return,
        (Liveness::Idle, _) => format!(
            "`{program} run` waits for the open batches and collects them, `{program} run --no-wait` collects what is ready"
        ),
    };
    context.out.hint(&hint);
}
