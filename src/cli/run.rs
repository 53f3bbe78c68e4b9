//! `overnight run`: sends what is due and records what comes back.

pub(crate) mod budget;
mod ending;
mod estimate;
mod setup;
mod soundness;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::budget::parse_usd;
pub(crate) use self::setup::Setup;
use super::Context;
use super::failure::{Exit, Failure};
use super::plan::{Extent, InDoubt, Plan, QUIETLY, Speed, Ways, Wish};
use super::prices::{self, PriceBook, PricesArg};
use super::progress::Progress;
use super::server;
use super::text::{count, moment, parse_some_duration, parse_time, them, thousands, whole};
use crate::domain::{Event, NanoUsd, Oversized, RowId, UnixMs};
use crate::engine::{self, BatchPlan, Clock, Control, Purpose, RunPlan, Transport, World};
use crate::machine::budget::Budget;
use crate::machine::pace::PaceSettings;
use crate::machine::plan::Liveness;
use crate::machine::request::InDoubtPolicy;
use crate::store::{RunFacts, RunLock, Sampled, Store};
use soundness::Soundness;

/// What may be spent without asking, on a terminal.
const ASK_ABOVE: NanoUsd = NanoUsd(1_000_000_000);
/// How often the lock is tried: somebody may just be looking whether a run is on.
const LOCK_TRIES: u32 = 20;

/// Send what is due and record what comes back; goes on from wherever the last run stopped.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight run
  overnight run --limit 20                 tries the first 20 rows
  overnight run --sample 20                tries 20 rows at random; `overnight plan` learns from them
  overnight run --dry-run                  says what it would send
  overnight run --max-cost 5               stops before more than 5 USD can have been spent, in all runs together
  overnight run --concurrency 64 --rpm 500
  overnight run --route batch              costs less, and takes up to a day
  overnight run --by 08:00                 what batches have not answered by then goes by calls
  overnight run --no-wait                  submits, collects what is ready, leaves: for cron
  overnight run --in-doubt=hold            leaves what a crash put in doubt

Only what has no answer is sent: running again with nothing new does nothing. Ctrl-C stops sending
and waits for what is in flight; a second one stops at once. Batches go on at the provider either
way, and the next run collects them; `overnight cancel` ends them.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that is there or not")]
pub(crate) struct Args {
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    prices: PricesArg,
    /// Cancel at TIME what batches have not answered, collect what they did, and send the rest by calls;
    /// TIME is `08:00` (the next one), `2h`, or a timestamp.
    #[arg(long, value_name = "TIME", conflicts_with = "no_wait", allow_hyphen_values = true)]
    by: Option<String>,
    /// Look at a batch at least this often.
    #[arg(long, value_name = "DURATION", default_value = "1m", allow_hyphen_values = true, value_parser = parse_some_duration)]
    poll: Duration,
    /// Submit batches, collect those that have ended, and leave; exit code 4 says that some go on.
    #[arg(long)]
    no_wait: bool,
    /// Send no single request ahead of a new prompt's first batch.
    #[arg(long)]
    no_canary: bool,
    /// Have N requests in flight from the start, and never more; without it the number adapts.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, Some(10_000)))]
    concurrency: Option<u32>,
    /// Let the project spend at most USD in all, what earlier runs have spent counted.
    #[arg(long, value_name = "USD", allow_negative_numbers = true, value_parser = parse_usd)]
    max_cost: Option<NanoUsd>,
    /// Send at most N requests a minute.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    rpm: Option<u32>,
    /// Send and receive at most about N tokens a minute.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    tpm: Option<u32>,
    /// Wait at most so long for a reply.
    #[arg(long, value_name = "DURATION", default_value = "10m", allow_hyphen_values = true, value_parser = parse_some_duration)]
    timeout: Duration,
    /// What to do with requests that may have been sent and have no reply on file.
    #[arg(long, value_name = "POLICY", default_value = "resend")]
    in_doubt: InDoubt,
    /// Ask for each row, even where another row's request is the same to the byte.
    #[arg(long)]
    no_reuse: bool,
    /// Where the provider `openai` is in this run; wins over what `init` was told.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Send the key over plain http:// to another machine too, where everyone in between can read it.
    #[arg(long)]
    insecure_http: bool,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Never ask before spending.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let context = &context.sending_in_clear(args.insecure_http);
    if let Some(url) = &args.base_url {
        server::check_base_url(url, "--base-url")?;
    }
    let by = args.by.as_deref().map(deadline).transpose()?;
    if args.dry_run {
        return dry_run(&args, context);
    }
    let mut store = context.open()?;
    let Some(lock) = take_lock(context)? else { return Err(already_running(&store, context)) };
    if !store.is_large() {
        store.must_be_sound()?;
    }
    // The lock is ours: whoever has left something in flight is gone.
    let book = PriceBook::load(&store, &args.prices)?;
    let plan = Plan::make(&store, &wish(&args, Liveness::Idle, &book), context)?;
    must_have_work(&store, &plan, context)?;
    plan.must_have_batches()?;
    if plan.left().due() == 0 && plan.open.batches == 0 {
        return nothing_to_do(&plan, context);
    }
    if !may_spend(&args, &plan, context) {
        context.out.say("nothing was sent");
        return Ok(Exit::Done);
    }
    book.remember(&mut store, Clock::now())?;
    let budget = budget::make((&store, &plan), &book, args.max_cost, context)?;
    let exit = in_runtime(carry_out((&args, &book), (by, budget), store, context));
    drop(lock);
    exit
}

/// Carries out something that waits for sockets.
pub(crate) fn in_runtime(
    work: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error("cannot start the run").caused_by(&error))?;
    let exit = runtime.block_on(work);
    // What still waits for a socket is of no use to anybody.
    runtime.shutdown_background();
    exit
}

pub(crate) fn deadline(text: &str) -> Result<UnixMs, Failure> {
    let now = jiff::Timestamp::from_millisecond(Clock::now().0).unwrap_or_default();
    parse_time(text, &now.to_zoned(jiff::tz::TimeZone::system()))
        .map_err(|wrong| Failure::usage(format!("--by: {wrong}")))
}

fn wish<'a>(args: &'a Args, liveness: Liveness, prices: &'a PriceBook) -> Wish<'a> {
    Wish {
        ways: args.ways,
        in_doubt: args.in_doubt.into(),
        liveness,
        base_url: args.base_url.as_deref(),
        canary: !args.no_canary,
        prices,
        speed: Speed { concurrency: args.concurrency, rpm: args.rpm, tpm: args.tpm },
        look: (Extent::Few, QUIETLY),
    }
}

fn dry_run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let store = context.open_to_read()?;
    let plan = store.as_of_now(|store| {
        let book = PriceBook::load(store, &args.prices)?;
        // As closely as `plan` looks: nobody waits for it to send.
        let wish =
            Wish { look: (Extent::Many, QUIETLY), ..wish(args, context.liveness(store)?, &book) };
        let plan = Plan::make(store, &wish, context)?;
        must_have_work(store, &plan, context)?;
        Ok::<_, Failure>(plan)
    })?;
    plan.must_have_batches()?;
    if context.out.is_json() {
        context.out.json(&plan.as_json())?;
        return Ok(Exit::Done);
    }
    match plan.left().due() {
        0 => context.out.say("nothing is due, and nothing was sent"),
        _ => context.out.say(&format!("would send {}; nothing was sent", plan.in_short())),
    }
    let open = plan.open;
    if open.batches > 0 {
        let (batches, requests) = (count(open.batches, "batch"), count(open.requests, "request"));
        let them = them(open.batches);
        context.out.say(&match args.no_wait {
            true => format!(
                "would look at {batches} of earlier runs with {requests}, and collect what is ready of {them}"
            ),
            false => format!("would wait for {batches} of earlier runs with {requests}, and collect {them}"),
        });
    }
    context.out.hint(&format!("`{} plan` says more", context.program()));
    Ok(Exit::Done)
}

fn must_have_work(store: &Store, plan: &Plan, context: &Context) -> Result<(), Failure> {
    let program = context.program();
    if plan.prompts.is_empty() {
        return Err(Failure::error("the project has no prompt")
            .hint(format!("`{program} prompt add FILE --model MODEL` adds one")));
    }
    // What is in batches has been paid for, and is collected whatever has left the table since.
    if plan.open.batches == 0 && store.live_rows()? == 0 {
        return Err(Failure::error("the project has no rows")
            .hint(format!("`{program} add FILE` adds some")));
    }
    Ok(())
}

pub(crate) fn take_lock(context: &Context) -> Result<Option<RunLock>, Failure> {
    for _ in 0..LOCK_TRIES {
        let taken = RunLock::take(&context.project)?;
        if let Some(lock) = taken {
            let (host, since) = (context.settings.host(), moment(Clock::now()));
            lock.sign(&format!("process {} on {host}, since {since}", std::process::id()));
            return Ok(Some(lock));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

pub(crate) fn already_running(store: &Store, context: &Context) -> Failure {
    let failure = match (RunLock::holder(&context.project), store.last_run()) {
        (Some(holder), _) => Failure::error(format!("a run is on: {holder}")),
        (None, Ok(Some(run))) if run.ended.is_none() => Failure::error(format!(
            "a run is on: process {} on {}, since {}",
            run.process_id,
            run.host,
            moment(run.started_at)
        )),
        (None, _) => Failure::error("a run is on in another process"),
    };
    failure.hint(format!("`{} status --watch` shows how it goes", context.program()))
}

fn nothing_to_do(plan: &Plan, context: &Context) -> Result<Exit, Failure> {
    let left = plan.left();
    if context.out.is_json() {
        context
            .out
            .json_line(&json!({"event": "finished", "ended": "nothing_to_do", "sent": 0}))?;
    }
    if left.stuck() == 0 {
        context.out.say(&format!("nothing to do: {} answered", count(left.answered, "request")));
        return Ok(Exit::Done);
    }
    context.out.say(&format!(
        "nothing is due: {} answered, {} not",
        thousands(left.answered),
        thousands(left.stuck())
    ));
    ending::stuck_hints(&left, context);
    Ok(Exit::SomeFailed)
}

fn may_spend(args: &Args, plan: &Plan, context: &Context) -> bool {
    if args.yes || plan.prompts.iter().all(|one| one.prompt.spec.model.provider == "simulated") {
        return true;
    }
    if plan.cost().about.is_some_and(|cost| cost <= ASK_ABOVE) {
        return true;
    }
    context.out.ask(&format!("This sends {}. Go on?", plan.in_short())).unwrap_or(true)
}

async fn carry_out(
    (args, book): (&Args, &PriceBook),
    (by, budget): (Option<UnixMs>, Budget),
    store: Store,
    context: &Context,
) -> Result<Exit, Failure> {
    let (limit, sample) = match draw(&store, &args.ways, args.in_doubt.into())? {
        Some(drawn) => {
            context.out.say(&format!(
                "a sample of {}, drawn with seed {}",
                count(drawn.rows.len() as u64, "row"),
                args.ways.seed
            ));
            (Some(drawn.requests), Some(drawn.rows))
        }
        None => (args.ways.limit, None),
    };
    let given = (args.base_url.as_deref(), args.in_doubt.into(), book);
    let setup = Setup::make(&store, given, context).await?;
    let batches = BatchPlan {
        asked: args.ways.route.into(),
        oversized: args.ways.oversized.into(),
        most: args.ways.most(),
        poll: args.poll,
        waits: !args.no_wait,
        canary: !args.no_canary,
        by,
        servers: HashMap::new(),
        purpose: Purpose::Answer,
    };
    let how = How {
        batches,
        pace: PaceSettings { concurrency: args.concurrency, rpm: args.rpm, tpm: args.tpm },
        in_doubt: args.in_doubt,
        reuse: !args.no_reuse,
        limit,
        sample,
        budget,
        timeout: args.timeout,
        settings: settings(args),
    };
    execute(setup, how, store, context).await
}

/// Draws the rows of a pilot, if one is asked for.
pub(crate) fn draw(
    store: &Store,
    ways: &Ways,
    in_doubt: InDoubtPolicy,
) -> Result<Option<Sampled>, Failure> {
    let Some(wanted) = ways.sample else { return Ok(None) };
    Ok(Some(store.sample(&store.live_prompts()?, in_doubt, (wanted, ways.seed))?))
}

/// How a run is carried out.
pub(crate) struct How {
    /// Its servers are filled in.
    pub(crate) batches: BatchPlan,
    pub(crate) pace: PaceSettings,
    pub(crate) in_doubt: InDoubt,
    pub(crate) reuse: bool,
    pub(crate) limit: Option<u64>,
    /// The rows of a pilot; `limit` says how many requests they have.
    pub(crate) sample: Option<Vec<RowId>>,
    pub(crate) budget: Budget,
    pub(crate) timeout: Duration,
    /// As JSON, for the record.
    pub(crate) settings: String,
}

/// Carries out a run and says how it ended.
pub(crate) async fn execute(
    setup: Setup,
    how: How,
    store: Store,
    context: &Context,
) -> Result<Exit, Failure> {
    let mut store = store;
    let transport = Transport::new(how.timeout, setup.proxies())
        .map_err(|error| Failure::error("cannot set up the HTTP client").caused_by(&error))?;
    let run = store.start_run(&RunFacts {
        started_at: Clock::now(),
        settings_json: prices::beside(&how.settings, &setup.tasks),
        process_id: std::process::id(),
        host: context.settings.host(),
    })?;
    let progress = Arc::new(Progress::new(context.out));
    let watch = Arc::clone(&progress);
    let (control, commands) = unbounded_channel();
    let soundness =
        store.is_large().then(|| Soundness::check(&context.project, &control)).flatten();
    let listener = tokio::spawn(listen(control));
    let purpose = how.batches.purpose.clone();
    let plan = RunPlan {
        run,
        tasks: setup.tasks,
        pace: how.pace,
        in_doubt: how.in_doubt.into(),
        reuse: how.reuse,
        limit: how.limit,
        sample: how.sample,
        budget: how.budget,
        batches: BatchPlan { servers: setup.servers, ..how.batches },
        transport,
        seed: fastrand::u64(..),
        world: World::real(),
    };
    let path = context.project.clone();
    let open: engine::Opens = Arc::new(move || Store::open_to_read(&path, Clock::now()));
    let watch: Box<dyn Fn(Event) + Send> = Box::new(move |event| watch.tell(&event));
    let ran = engine::run(plan, store, open, (commands, watch)).await;
    listener.abort();
    drop(soundness);
    if let Some(simulator) = setup.simulator {
        simulator.stop().await;
    }
    ending::finish(ran, (run, &purpose), &progress, context)
}

fn settings(args: &Args) -> String {
    json!({
        "limit": args.ways.limit, "sample": args.ways.sample, "seed": args.ways.sample.map(|_| args.ways.seed), "concurrency": args.concurrency, "rpm": args.rpm, "tpm": args.tpm,
        "timeout_ms": args.timeout.as_millis() as u64, "base_url": args.base_url,
        "max_cost_usd": args.max_cost.map(NanoUsd::usd),
        "in_doubt": match args.in_doubt { InDoubt::Resend => "resend", InDoubt::Hold => "hold" },
        "reuse": !args.no_reuse,
        "route": args.ways.route.as_str(), "oversized": Oversized::from(args.ways.oversized).as_str(),
        "by": args.by, "batch_size": args.ways.batch_size, "batch_tokens": args.ways.batch_tokens,
        "poll_ms": args.poll.as_millis() as u64, "wait": !args.no_wait, "canary": !args.no_canary,
    })
    .to_string()
}

/// Passes the first Ctrl-C (or SIGTERM) on; the second one ends the process where it stands.
pub(crate) async fn listen(control: UnboundedSender<Control>) {
    signal().await;
    // Nobody listens only once the run has ended.
    let _ = control.send(Control::Interrupt);
    signal().await;
    std::process::exit(Exit::Interrupted as i32);
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
