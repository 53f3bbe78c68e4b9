//! `overnight rehearse`: the run that is due, lived through in seconds on a copy of the project, before it costs anything.
//!
//! It is the run itself: the same plan, feeders, dispatcher and record. Only what it stands on is another: a copy of the
//! project, one thread, time that passes as soon as nothing is left to do, and in the place of each server a simulated
//! provider with the limits, times and prices of the real one, at the end of a wire that has no socket.
//!
//! ```text
//!   project ──copy──▶ scratch ──run──▶ wire ──▶ simulated provider (limits learned or given)
//!                        └────────────▶ report: batches, duration, cost, problems, what was assumed
//! ```
//!
//! It must never write to the project, open a socket, or need a key; and it leaves nothing behind but a folder that a
//! person asked for.

mod assumed;
mod json;
mod notes;
mod page;
mod problems;
mod report;
mod scratch;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

use self::notes::Notes;
use self::report::{Facts, Report};
use self::scratch::{Guard, Scratch};
use self::stage::Stage;
use super::Context;
use super::failure::{Exit, Failure};
use super::plan::{Extent, Plan, QUIETLY, Speed, Ways, Wish};
use super::prices::{PriceBook, PricesArg};
use super::run::budget::{self, parse_usd};
use super::run::draw;
use super::server;
use super::text::{parse_duration, parse_some_duration, parse_time, whole};
use crate::domain::{AttemptId, Event, HowEnded, NanoUsd, Problem, RunId, UnixMs};
use crate::engine::{
    self, BatchPlan, Clock, LIMITS_KEPT_MS, Proxies, Purpose, RunPlan, Transport, World,
};
use crate::machine::budget::Budget;
use crate::machine::pace::PaceSettings;
use crate::machine::plan::Liveness;
use crate::machine::request::InDoubtPolicy;
use crate::simulate::Faults;
use crate::store::{LockState, RunFacts, RunLock, Sampled, Store};

/// A rehearsal in which no request has come to its end for so long comes to none.
const STALLED: Duration = Duration::from_hours(3 * 24);
/// How often that is looked at.
const LOOK: Duration = Duration::from_hours(6);
/// How long a call is waited for; as `run` does by itself.
const TIMEOUT: Duration = Duration::from_mins(10);

/// Live through the due run on a copy, without a key, a network or a cent: how long, how much, what goes wrong.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight rehearse
  overnight rehearse --rpm 500 --tpm 200000        with the limits of your account
  overnight rehearse --route batch --enqueued-tokens 2000000 --batch-delay 3h
  overnight rehearse --limit 1000 --faults 429=0.05,500=0.01
  overnight rehearse --keep night                  leaves the copy in the folder night, to look into
  overnight rehearse --json

Nothing is sent, and the project is not touched: it works on a copy, which is removed in the end.
The limits are those given here, or those that the provider has told and the project remembers;
answers are made up, as long as those on record where there are some. What is taken to be so is
listed with the result. Exit code 3 says that some rows would not be answered, 5 that the budget
is not enough.")]
pub(crate) struct Args {
    #[command(flatten)]
    ways: Ways,
    /// As in `run`: cancel at TIME what batches have not answered, and send the rest by calls.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    by: Option<String>,
    /// Look at a batch at least this often.
    #[arg(long, value_name = "DURATION", default_value = "1m", allow_hyphen_values = true, value_parser = parse_some_duration)]
    poll: Duration,
    /// Send no single request ahead of a new prompt's first batch.
    #[arg(long)]
    no_canary: bool,
    /// Have N requests in flight from the start, and never more; without it the number adapts.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, Some(10_000)))]
    concurrency: Option<u32>,
    /// Let the project spend at most USD in all, what earlier runs have spent counted.
    #[arg(long, value_name = "USD", allow_negative_numbers = true, value_parser = parse_usd)]
    max_cost: Option<NanoUsd>,
    /// Send at most N requests a minute; also the provider's limit, where it has told none.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    rpm: Option<u32>,
    /// Send and receive at most about N tokens a minute; also the provider's limit, where it has told none.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    tpm: Option<u32>,
    /// Ask for each row, even where another row's request is the same to the byte.
    #[arg(long)]
    no_reuse: bool,
    #[command(flatten)]
    prices: PricesArg,
    /// Where the provider `openai` would be; nothing is sent there.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The most input tokens that the provider lets wait in its queue for one model.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(1, None))]
    enqueued_tokens: Option<u64>,
    /// How long a call takes; without it as on record, else 1 s.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    latency: Option<Duration>,
    /// How long a batch takes; without it as on record, else 1 h.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_some_duration)]
    batch_delay: Option<Duration>,
    /// What goes wrong, and when: FAULT=WHEN, separated by commas, as in `overnight simulate --help`.
    #[arg(long, value_name = "FAULTS", default_value = "", hide_default_value = true)]
    faults: Faults,
    /// Leave the copy, with all that was rehearsed, in a new folder DIR.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if let Some(url) = &args.base_url {
        server::check_base_url(url, "--base-url")?;
    }
    let by = args.by.as_deref().map(deadline).transpose()?;
    let guard = Guard::listen(context.out)?;
    let began = Clock::now();
    let liveness = liveness(context);
    let scratch = Scratch::copy(args.keep.as_deref(), &guard, context)?;
    let mut store = scratch.open()?;
    // As a run does before it looks at them.
    let stale = UnixMs(began.0 - LIMITS_KEPT_MS);
    store.forget_queue_limits(stale)?;
    store.forget_rate_limits(stale)?;
    let aside = store.set_batches_aside()?;
    let in_doubt = match liveness {
        // A run that is on settles them itself.
        Liveness::Running => InDoubtPolicy::Hold,
        Liveness::Idle => InDoubtPolicy::Resend,
    };
    let book = PriceBook::load(&store, &args.prices)?;
    let budget = look_ahead(&store, (&args, in_doubt), &book, context)?;
    let before = Before {
        as_of: began,
        is_running: liveness == Liveness::Running,
        rows: store.live_rows()?,
        copy_bytes: scratch.bytes(),
        aside,
        newest_attempt: store.newest_attempt()?,
    };
    let sample = draw(&store, &args.ways, in_doubt)?;
    let played = Play { args: &args, book: &book, by, budget, sample, in_doubt, context };
    let played = play(&played, &guard, store)?;
    if guard.came() {
        return Err(interrupted(&args));
    }
    let report = Report::make(before, played)?;
    if context.out.is_json() {
        context.out.json(&report.as_json(context))?;
    } else {
        context.out.data(&page::page(&report, context))?;
    }
    page::next_steps(&report, (&scratch, args.keep.is_some()), context);
    Ok(report.exit())
}

/// What is known before anything is played.
pub(super) struct Before {
    as_of: UnixMs,
    is_running: bool,
    rows: u64,
    copy_bytes: u64,
    /// Batches of earlier runs that are not done with, and their requests.
    aside: (u64, u64),
    newest_attempt: AttemptId,
}

fn liveness(context: &Context) -> Liveness {
    match RunLock::look(&context.project) {
        LockState::Running => Liveness::Running,
        LockState::Idle => Liveness::Idle,
    }
}

fn deadline(text: &str) -> Result<UnixMs, Failure> {
    let now = jiff::Timestamp::from_millisecond(Clock::now().0).unwrap_or_default();
    parse_time(text, &now.to_zoned(jiff::tz::TimeZone::system()))
        .map_err(|wrong| Failure::usage(format!("--by: {wrong}")))
}

fn interrupted(args: &Args) -> Failure {
    let mut failure = Failure::error("interrupted; nothing was sent");
    failure.exit = Exit::Interrupted;
    match &args.keep {
        Some(folder) => failure.hint(format!("what was rehearsed is in {}", folder.display())),
        None => failure,
    }
}

/// Refuses what `run` would refuse before it sends anything, and makes the budget.
fn look_ahead(
    store: &Store,
    (args, in_doubt): (&Args, InDoubtPolicy),
    book: &PriceBook,
    context: &Context,
) -> Result<Budget, Failure> {
    let program = context.program();
    let wish = Wish {
        ways: args.ways,
        in_doubt,
        liveness: Liveness::Idle,
        base_url: args.base_url.as_deref(),
        canary: !args.no_canary,
        prices: book,
        speed: Speed { concurrency: args.concurrency, rpm: args.rpm, tpm: args.tpm },
        look: (Extent::Few, QUIETLY),
    };
    let plan = Plan::make(store, &wish, context)?;
    if plan.prompts.is_empty() {
        return Err(Failure::error("the project has no prompt")
            .hint(format!("`{program} prompt add FILE --model MODEL` adds one")));
    }
    if store.live_rows()? == 0 {
        return Err(Failure::error("the project has no rows")
            .hint(format!("`{program} add FILE` adds some")));
    }
    plan.must_have_batches()?;
    budget::make((store, &plan), book, args.max_cost, context)
}

/// What is played.
struct Play<'a> {
    args: &'a Args,
    book: &'a PriceBook,
    by: Option<UnixMs>,
    budget: Budget,
    /// The rows of a pilot, if one is rehearsed.
    sample: Option<Sampled>,
    in_doubt: InDoubtPolicy,
    context: &'a Context,
}

/// Lives through the run, in a time of its own.
fn play(played: &Play<'_>, guard: &Guard, store: Store) -> Result<Facts, Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::error("cannot start the rehearsal").caused_by(error)
    };
    // Without sockets, and with time that stands still until nothing is left to do.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| cannot(&error))?;
    LocalSet::new().block_on(&runtime, carry_out(played, guard, store))
}

async fn carry_out(played: &Play<'_>, guard: &Guard, store: Store) -> Result<Facts, Failure> {
    let Play { args, book, context, .. } = played;
    let mut store = store;
    let started_at = Clock::now();
    let clock = Clock::simulated(started_at);
    let stage = Stage::set((&store, clock), (args, played.in_doubt), book, context)?;
    let run = store.start_run(&RunFacts {
        started_at,
        settings_json: json!({"rehearsal": true, "seed": args.ways.seed}).to_string(),
        process_id: std::process::id(),
        host: context.settings.host(),
    })?;
    let (control, commands) = unbounded_channel();
    guard.pass_on(control.clone());
    let notes = Arc::new(Notes::new(context.out, clock, stage.exchange.clone(), control));
    let stall = tokio::task::spawn_local(stop_when_stalled(Arc::clone(&notes)));
    let assumed = stage.assumed.clone();
    let run_plan = run_plan(played, stage, (run, clock))?;
    let path = store.path().to_owned();
    let open: engine::Opens = Arc::new(move || Store::open_to_read(&path, Clock::now()));
    let told = Arc::clone(&notes);
    let watch: Box<dyn Fn(Event) + Send> = Box::new(move |event| told.tell(&event));
    let (mut store, how, _) = engine::run(run_plan, store, open, (commands, watch)).await?;
    let has_stalled = how == HowEnded::Stopped(Problem::Interrupted) && !guard.came();
    stall.abort();
    store.end_run(run, clock.time_of_day(), how.as_str(), None)?;
    Ok(Facts {
        run,
        how,
        has_stalled,
        duration: clock.elapsed(),
        started_at,
        noted: notes.noted(),
        assumed,
        store,
    })
}

/// Plans the run as `run` would with the same options, on another stage.
fn run_plan(
    played: &Play<'_>,
    stage: Stage,
    (run, clock): (RunId, Clock),
) -> Result<RunPlan, Failure> {
    let args = played.args;
    let transport = Transport::new(TIMEOUT, Proxies::None)
        .map_err(|error| Failure::error("cannot set up the HTTP client").caused_by(&error))?
        .by_wire(Arc::new(stage.exchange));
    let (limit, sample) = match &played.sample {
        Some(drawn) => (Some(drawn.requests), Some(drawn.rows.clone())),
        None => (args.ways.limit, None),
    };
    Ok(RunPlan {
        run,
        tasks: stage.tasks,
        pace: PaceSettings { concurrency: args.concurrency, rpm: args.rpm, tpm: args.tpm },
        in_doubt: played.in_doubt,
        reuse: !args.no_reuse,
        limit,
        sample,
        budget: played.budget,
        batches: BatchPlan {
            asked: args.ways.route.into(),
            oversized: args.ways.oversized.into(),
            most: args.ways.most(),
            poll: args.poll,
            waits: true,
            canary: !args.no_canary,
            by: played.by,
            servers: stage.servers,
            purpose: Purpose::Answer,
        },
        transport,
        seed: args.ways.seed,
        world: World::rehearsed(clock),
    })
}

/// Ends a rehearsal that would never end: a person's run would wait, and say so.
async fn stop_when_stalled(notes: Arc<Notes>) {
    let (mut done, mut since) = (0, Duration::ZERO);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = notes.elapsed();
        if notes.done() > done {
            (done, since) = (notes.done(), now);
        } else if now.saturating_sub(since) >= STALLED {
            return notes.give_up();
        }
    }
}
