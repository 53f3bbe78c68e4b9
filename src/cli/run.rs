//! `overnight run`: sends what is due and records what comes back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::failure::{Exit, Failure};
use super::plan::{self, InDoubt, PromptPlan};
use super::progress::Progress;
use super::server::Place;
use super::text::{count, moment, parse_some_duration, them, thousands, whole};
use super::{Context, server, tasks};
use crate::domain::{Event, FailureClass, HowEnded, NanoUsd, Problem, RunId, Tally};
use crate::engine::{self, Clock, Control, EngineError, Proxies, RunPlan, Task, Transport};
use crate::machine::pace::PaceSettings;
use crate::machine::plan::Liveness;
use crate::simulate::{self, Simulator};
use crate::store::{RunFacts, RunLock, Store};

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
  overnight run --dry-run                  says what it would send
  overnight run --concurrency 64 --rpm 500
  overnight run --in-doubt=hold            leaves what a crash put in doubt

Only what has no answer is sent: running again with nothing new does nothing. Ctrl-C stops sending
and waits for what is in flight; a second one stops at once.")]
pub(crate) struct Args {
    /// By which way: `auto` chooses.
    #[arg(long, value_name = "ROUTE", default_value = "auto")]
    route: Route,
    /// Take up at most N requests.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(1, None))]
    limit: Option<u64>,
    /// Have N requests in flight from the start, and never more; without it the number adapts.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, Some(10_000)))]
    concurrency: Option<u32>,
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
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Never ask before spending.
    #[arg(long)]
    yes: bool,
}

/// By which way requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Route {
    Auto,
    Realtime,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if let Some(url) = &args.base_url {
        server::check_base_url(url, "--base-url")?;
    }
    if args.dry_run {
        return dry_run(&args, context);
    }
    let store = context.open()?;
    let Some(lock) = take_lock(context)? else { return Err(already_running(&store, context)) };
    // The lock is ours: whoever has left something in flight is gone.
    let plans = plan::plans(&store, args.in_doubt.into(), Liveness::Idle)?;
    must_have_work(&store, &plans, context)?;
    if plan::total(&plans).due() == 0 {
        return nothing_to_do(&plans, context);
    }
    if !may_spend(&args, &plans, context) {
        context.out.say("nothing was sent");
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error("cannot start the run").caused_by(&error))?;
    let exit = runtime.block_on(carry_out(&args, store, plans, context));
    // What still waits for a socket is of no use to anybody.
    runtime.shutdown_background();
    drop(lock);
    exit
}

fn dry_run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let store = context.open_to_read()?;
    let plans = plan::plans(&store, args.in_doubt.into(), plan::liveness(&store))?;
    must_have_work(&store, &plans, context)?;
    if context.out.is_json() {
        context.out.json(&plan::as_json(&plans, store.live_rows()?))?;
        return Ok(Exit::Done);
    }
    let due = plan::total(&plans).due().min(args.limit.unwrap_or(u64::MAX));
    context.out.say(&format!("{} would be sent; nothing was sent", count(due, "request")));
    context.out.hint(&format!("`{} plan` says more", context.program()));
    Ok(Exit::Done)
}

fn must_have_work(store: &Store, plans: &[PromptPlan], context: &Context) -> Result<(), Failure> {
    let program = context.program();
    if plans.is_empty() {
        return Err(Failure::error("the project has no prompt")
            .hint(format!("`{program} prompt add FILE --model MODEL` adds one")));
    }
    if store.live_rows()? == 0 {
        return Err(Failure::error("the project has no rows")
            .hint(format!("`{program} add FILE` adds some")));
    }
    Ok(())
}

fn take_lock(context: &Context) -> Result<Option<RunLock>, Failure> {
    for _ in 0..LOCK_TRIES {
        let taken = RunLock::take(&context.project).map_err(|error| {
            Failure::error(format!("cannot lock {}", context.project.display()))
                .caused_by(&error)
                .hint("the project's folder must be writable, on a file system that has locks")
        })?;
        if taken.is_some() {
            return Ok(taken);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

fn already_running(store: &Store, context: &Context) -> Failure {
    let failure = match store.last_run() {
        Ok(Some(run)) if run.ended.is_none() => Failure::error(format!(
            "a run is on: run {}, process {} on {}, since {}",
            run.id,
            run.process_id,
            run.host,
            moment(run.started_at)
        )),
        Ok(_) | Err(_) => Failure::error("a run is on in another process"),
    };
    failure.hint(format!("`{} status --watch` shows how it goes", context.program()))
}

fn nothing_to_do(plans: &[PromptPlan], context: &Context) -> Result<Exit, Failure> {
    let left = plan::total(plans);
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
    stuck_hints(&left, context);
    Ok(Exit::SomeFailed)
}

fn stuck_hints(left: &crate::machine::plan::Left, context: &Context) {
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

fn may_spend(args: &Args, plans: &[PromptPlan], context: &Context) -> bool {
    if args.yes || plans.iter().all(|plan| plan.prompt.spec.model.provider == "simulated") {
        return true;
    }
    let due = plan::total(plans).due();
    let share = args.limit.map_or(1.0, |limit| (limit as f64 / due.max(1) as f64).min(1.0));
    let mut sum = Some(NanoUsd(0));
    for plan in plans {
        sum = sum.zip(plan.estimate.cost).map(|(sum, cost)| sum + cost);
    }
    let sum = sum.map(|sum| NanoUsd((sum.0 as f64 * share) as i64));
    let about = match sum {
        Some(sum) if sum <= ASK_ABOVE => return true,
        Some(sum) => format!("about {sum}"),
        None => "an unknown sum".to_owned(),
    };
    let sent = count(due.min(args.limit.unwrap_or(u64::MAX)), "request");
    context.out.ask(&format!("{sent} will cost {about}. Send them?")).unwrap_or(true)
}

async fn carry_out(
    args: &Args,
    store: Store,
    plans: Vec<PromptPlan>,
    context: &Context,
) -> Result<Exit, Failure> {
    let mut store = store;
    let (tasks, simulator) = tasks(args, &store, plans, context).await?;
    let proxies = match simulator {
        Some(_) => Proxies::None,
        None => Proxies::AsTheSystemSays,
    };
    let transport = Transport::new(args.timeout, proxies)
        .map_err(|error| Failure::error("cannot set up the HTTP client").caused_by(&error))?;
    let run = store.start_run(&RunFacts {
        started_at: Clock::now(),
        settings_json: settings(args),
        process_id: std::process::id(),
        host: context.settings.host(),
    })?;
    let progress = Arc::new(Progress::new(context.out));
    let watch = Arc::clone(&progress);
    let (control, commands) = unbounded_channel();
    let listener = tokio::spawn(listen(control));
    let plan = RunPlan {
        run,
        tasks,
        pace: PaceSettings { concurrency: args.concurrency, rpm: args.rpm, tpm: args.tpm },
        in_doubt: args.in_doubt.into(),
        reuse: !args.no_reuse,
        limit: args.limit,
        transport,
        seed: fastrand::u64(..),
    };
    let open = || context.open_to_read();
    let watch: Box<dyn Fn(Event) + Send> = Box::new(move |event| watch.tell(&event));
    let ran = engine::run(plan, store, open, (commands, watch)).await;
    listener.abort();
    if let Some(simulator) = simulator {
        simulator.stop().await;
    }
    finish(ran, run, &progress, context)
}

/// Makes the run's tasks, and the simulator in this process if one of them needs it.
async fn tasks(
    args: &Args,
    store: &Store,
    plans: Vec<PromptPlan>,
    context: &Context,
) -> Result<(Vec<Task>, Option<Simulator>), Failure> {
    let project = store.project()?;
    let base_url = args.base_url.as_deref().or(project.base_url.as_deref());
    let mut simulator = None;
    let mut ready = Vec::new();
    for plan in plans {
        let place = tasks::place_of(&plan.prompt, base_url, context)?;
        if place == Place::Embedded && simulator.is_none() {
            let started = simulate::start(simulate::Settings::new(Clock::now)).await;
            simulator = Some(started.map_err(|error| {
                Failure::error("cannot start the simulated provider").caused_by(&error)
            })?);
        }
        let embedded = simulator.as_ref().map(Simulator::base_url);
        let policy = project.policy(&plan.prompt.spec, args.in_doubt.into());
        ready.push(tasks::task(plan.prompt, (&place, embedded.as_deref()), policy, context)?);
    }
    Ok((ready, simulator))
}

fn settings(args: &Args) -> String {
    json!({
        "limit": args.limit, "concurrency": args.concurrency, "rpm": args.rpm, "tpm": args.tpm,
        "timeout_ms": args.timeout.as_millis() as u64, "base_url": args.base_url,
        "in_doubt": match args.in_doubt { InDoubt::Resend => "resend", InDoubt::Hold => "hold" },
        "reuse": !args.no_reuse,
        "route": match args.route { Route::Auto => "auto", Route::Realtime => "realtime" },
    })
    .to_string()
}

/// Passes the first Ctrl-C (or SIGTERM) on; the second one ends the process where it stands.
async fn listen(control: UnboundedSender<Control>) {
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

/// Records how the run ended and says so.
fn finish(
    ran: Result<(Store, HowEnded, Tally), EngineError>,
    run: RunId,
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
        HowEnded::Stopped(problem) => Some(failure(problem, &store, context)),
        HowEnded::Done | HowEnded::SomeFailed => None,
    };
    let ended = store.end_run(run, Clock::now(), how.as_str(), None);
    progress.tell(&Event::Finished { how: how.clone(), tally });
    summary(&store, &how, tally, context)?;
    ended?;
    match error {
        Some(failure) => Err(failure),
        None if how == HowEnded::SomeFailed => Ok(Exit::SomeFailed),
        None => Ok(Exit::Done),
    }
}

fn summary(store: &Store, how: &HowEnded, tally: Tally, context: &Context) -> Result<(), Failure> {
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
    let money = match tally.unpriced {
        0 => tally.cost.to_string(),
        _ => "cost unknown".to_owned(),
    };
    context.out.say(&format!(
        "{}; {}, {} tokens in, {} out, {money}",
        parts.join(", "),
        count(tally.sent, "call"),
        thousands(tally.usage.input),
        thousands(tally.usage.output)
    ));
    let plans = plan::plans(store, InDoubt::Resend.into(), Liveness::Idle)?;
    let left = plan::total(&plans);
    let program = context.program();
    if left.due() > 0 {
        let still = format!("{} still due", thousands(left.due()));
        match how {
            // Why, and that it goes on from here, is said last.
            HowEnded::Stopped(_) => context.out.say(&still),
            HowEnded::Done | HowEnded::SomeFailed => {
                context.out.hint(&format!("{still}: `{program} run` goes on"));
            }
        }
    } else if matches!(how, HowEnded::Done) {
        context
            .out
            .hint(&format!("`{program} export answers.csv` writes the table with its answers"));
    }
    stuck_hints(&left, context);
    Ok(())
}

fn failure(problem: &Problem, store: &Store, context: &Context) -> Failure {
    let program = context.program();
    let goes_on = format!("`{program} run` goes on from here");
    match problem {
        Problem::Interrupted => {
            let mut failure = Failure::error("interrupted").hint(goes_on);
            failure.exit = Exit::Interrupted;
            failure
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
            .hint("check the key's project, permissions and region with the provider"),
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
