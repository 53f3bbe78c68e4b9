//! `overnight status`: how the project stands, for a person, a script, or someone who watches.
//!
//! Everything is read anew each time and nothing is changed; the file is closed between two looks,
//! so that a watcher that is killed leaves nothing behind.

mod hints;
mod json;
mod page;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use super::batches::is_open;
use super::failure::{Exit, Failure};
use super::prices::{PriceBook, PricesArg};
use super::savings::Savings;
use super::{Context, plan};
use crate::domain::{BatchId, UnixMs};
use crate::engine::Clock;
use crate::machine::plan::{Left, Liveness};
use crate::store::{
    BatchCost, BatchRecord, FailureExample, PromptRecord, RunRecord, SourceLine, Spending,
    StateCounts, Store,
};

/// Show how the project stands: rows, requests by state, failures, batches, tokens, cost, the last run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight status
  overnight status --watch
  overnight status --json | jq .requests.failed
  overnight status --json | jq '.batches[] | select(.collected_at == null)'

With --json, `cost_usd` is null where a reply has tokens but no known price;
`cost_known_usd` leaves such replies out.")]
pub(crate) struct Args {
    /// Look again every 2 seconds (every 10 where stdout is no terminal) until the run is over; with no
    /// run on, wait a minute for one to begin.
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if args.watch {
        watch(context)?;
    } else {
        once(context)?;
    }
    Ok(Exit::Done)
}

fn once(context: &Context) -> Result<(), Failure> {
    let status = look(context)?;
    if context.out.is_json() {
        return context.out.json(&json::json(&status));
    }
    context.out.data(&page::page(&status))?;
    say_hints(&status, context);
    if status.is_running() {
        context.out.hint(&format!("`{} status --watch` follows it", context.program()));
    }
    Ok(())
}

fn say_hints(status: &Status, context: &Context) {
    for hint in hints::hints(status, &context.program()) {
        context.out.hint(&hint);
    }
}

/// All that the record says of how a project stands.
struct Status {
    project: String,
    liveness: Liveness,
    counts: StateCounts,
    /// What is left, over all prompts.
    left: Left,
    sources: Vec<SourceLine>,
    prompts: Vec<PromptRecord>,
    examples: Vec<FailureExample>,
    spending: Spending,
    savings: Savings,
    /// Oldest first.
    batches: Vec<BatchRecord>,
    costs: HashMap<BatchId, BatchCost>,
    /// When all this was read.
    now: UnixMs,
    last_run: Option<RunRecord>,
    format: i64,
}

impl Status {
    fn is_running(&self) -> bool {
        self.liveness == Liveness::Running
    }

    fn cost_of(&self, batch: &BatchRecord) -> BatchCost {
        self.costs.get(&batch.id).copied().unwrap_or_default()
    }

    fn open_batches(&self) -> impl Iterator<Item = &BatchRecord> {
        self.batches.iter().filter(|batch| is_open(batch))
    }
}

fn look(context: &Context) -> Result<Status, Failure> {
    let store = context.open_to_read()?;
    store.as_of_now(|store| read(store, Clock::now(), context))
}

fn read(store: &Store, now: UnixMs, context: &Context) -> Result<Status, Failure> {
    let liveness = context.liveness(store)?;
    let prompts = store.live_prompts()?;
    Ok(Status {
        project: context.project.display().to_string(),
        liveness,
        counts: store.state_counts(liveness == Liveness::Running)?,
        left: plan::left(store, liveness)?,
        sources: store.sources()?,
        prompts,
        examples: store.failure_examples()?,
        spending: store.spending()?,
        savings: Savings::of(store, &PriceBook::load(store, &PricesArg::default())?)?,
        batches: store.batches()?,
        costs: store.batch_costs()?,
        now,
        last_run: store.last_run()?,
        format: store.format()?,
    })
}

/// Between two looks of a person.
const ON_A_TERMINAL: Duration = Duration::from_secs(2);
/// Between two lines of a log.
const IN_A_LOG: Duration = Duration::from_secs(10);
/// How long a run is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// When watching ends.
#[derive(Default)]
struct Watch {
    has_seen_a_run: bool,
    waited: Duration,
}

impl Watch {
    /// Takes what was seen, and says whether there is more to wait for.
    fn goes_on(&mut self, liveness: Liveness, pause: Duration) -> bool {
        match liveness {
            Liveness::Running => {
                self.has_seen_a_run = true;
                true
            }
            Liveness::Idle => {
                self.waited += pause;
                !self.has_seen_a_run && self.waited <= PATIENCE
            }
        }
    }
}

fn watch(context: &Context) -> Result<(), Failure> {
    let out = context.out;
    let redraws = out.is_terminal() && !out.is_json();
    let pause = if redraws { ON_A_TERMINAL } else { IN_A_LOG };
    let mut watch = Watch::default();
    let mut lines = 0;
    loop {
        let status = look(context)?;
        if out.is_json() {
            out.json_line(&json::json(&status))?;
        } else if redraws {
            let page = page::page(&status);
            out.bytes(over(lines, &page).as_bytes())?;
            lines = page.lines().count();
        } else {
            out.data(&format!("{}\n", page::line(&status)))?;
        }
        if !watch.goes_on(status.liveness, pause) {
            if !out.is_json() {
                say_hints(&status, context);
            }
            return Ok(());
        }
        std::thread::sleep(pause);
    }
}

/// Puts a page where the last one was, which had so many lines. Long lines are cut by the terminal and
/// not wrapped, so that the lines count right.
fn over(lines: usize, page: &str) -> String {
    let back = if lines == 0 { String::new() } else { format!("\u{1b}[{lines}A\u{1b}[J") };
    format!("{back}\u{1b}[?7l{page}\u{1b}[?7h")
}
