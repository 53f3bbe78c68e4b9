//! `overnight cancel`: ends batches at the provider early and collects what they did.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::Context;
use super::batches::{is_open, standing};
use super::failure::{Exit, Failure};
use super::plan::InDoubt;
use super::prices::{PriceBook, PricesArg};
use super::run::{How, Setup, execute, in_runtime, take_lock};
use super::text::{count, parse_some_duration};
use crate::domain::{BatchId, Oversized};
use crate::engine::{BatchPlan, MostInBatches, Purpose, Transport};
use crate::machine::batch::{Step, step};
use crate::machine::budget::Budget;
use crate::machine::pace::PaceSettings;
use crate::machine::route::Asked;
use crate::store::{BatchRecord, Store};

/// Cancel batches at the provider, then collect what they did; the rest is due again.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight cancel --all
  overnight cancel 3
  overnight cancel batch_68f0c1 --no-wait

What a batch answered before it ended is billed, kept and collected; the rest is due again. A
provider may take ten minutes to end one; --no-wait leaves that to the next run, and exit code 4
says so.")]
pub(crate) struct Args {
    /// The batches, by their number in `overnight status` or by the provider's id.
    #[arg(value_name = "BATCH", conflicts_with = "all")]
    batches: Vec<String>,
    /// Cancel all batches that have not ended.
    #[arg(long)]
    all: bool,
    /// Tell the provider and leave; the next run collects what was done.
    #[arg(long)]
    no_wait: bool,
    /// Look at a batch at least this often.
    #[arg(long, value_name = "DURATION", default_value = "1m", allow_hyphen_values = true, value_parser = parse_some_duration)]
    poll: Duration,
    /// Wait at most so long for a reply.
    #[arg(long, value_name = "DURATION", default_value = "10m", allow_hyphen_values = true, value_parser = parse_some_duration)]
    timeout: Duration,
    /// Send the key over plain http:// to another machine too, where everyone in between can read it.
    #[arg(long)]
    insecure_http: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let context = &context.sending_in_clear(args.insecure_http);
    let program = context.program();
    if args.batches.is_empty() && !args.all {
        return Err(Failure::usage("no batch was named")
            .hint(format!(
                "`{program} status` lists the batches, `{program} cancel 3` cancels number 3"
            ))
            .hint(format!("`{program} cancel --all` cancels all that have not ended")));
    }
    let store = context.open()?;
    let chosen = chosen(&args, &store, context)?;
    if chosen.is_empty() {
        return nothing_to_do(&args, context);
    }
    match take_lock(context)? {
        Some(lock) => {
            let exit = in_runtime(cancel(&args, &chosen, store, context));
            drop(lock);
            exit
        }
        // The run that is on has the file in its hands: the provider is told, and it will see.
        None => in_runtime(tell(&args, &chosen, store, context)),
    }
}

fn nothing_to_do(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if context.out.is_json() {
        let event = json!({"event": "finished", "ended": "nothing_to_do", "sent": 0});
        context.out.json_line(&event)?;
    }
    if args.all {
        context.out.say("nothing to cancel: no batch is open");
    }
    Ok(Exit::Done)
}

/// Finds the batches that are named and not done with, each once. One that is not on record lets nothing be cancelled.
fn chosen(args: &Args, store: &Store, context: &Context) -> Result<Vec<BatchRecord>, Failure> {
    if args.all {
        return Ok(store.open_batches()?);
    }
    let all = store.batches()?;
    let mut found: Vec<&BatchRecord> = Vec::new();
    for name in &args.batches {
        let is_it = |batch: &&BatchRecord| {
            batch.provider_id.as_deref() == Some(name)
                || name.trim_start_matches('#').parse() == Ok(batch.id.0)
        };
        let batch = all.iter().find(is_it).ok_or_else(|| unknown(name, &all, context))?;
        if !found.iter().any(|known| known.id == batch.id) {
            found.push(batch);
        }
    }
    let (open, done): (Vec<_>, Vec<_>) = found.into_iter().partition(|batch| is_open(batch));
    for batch in done {
        context.out.say(&format!(
            "batch {} has ended and is collected ({}): there is nothing to cancel",
            batch.id,
            standing(batch)
        ));
    }
    Ok(open.into_iter().cloned().collect())
}

fn unknown(name: &str, all: &[BatchRecord], context: &Context) -> Failure {
    let program = context.program();
    let failure = Failure::error(format!("there is no batch {name:?}"));
    let open: Vec<&BatchRecord> = all.iter().filter(|batch| is_open(batch)).collect();
    match open.as_slice() {
        [] if all.is_empty() => failure.hint("the project has made no batches yet"),
        [] => failure.hint(format!("no batch is open; `{program} status` lists those that were")),
        [only] => failure.hint(format!("one is open: `{program} cancel {}` cancels it", only.id)),
        [..] => failure.hint(format!(
            "a batch is named by its number or the provider's id: `{program} status` lists them"
        )),
    }
}

async fn cancel(
    args: &Args,
    chosen: &[BatchRecord],
    store: Store,
    context: &Context,
) -> Result<Exit, Failure> {
    let book = PriceBook::load(&store, &PricesArg::default())?;
    let setup = Setup::make(&store, (None, InDoubt::Hold.into(), &book), context).await?;
    let ids: Vec<BatchId> = chosen.iter().map(|batch| batch.id).collect();
    let how = How {
        settings: json!({"cancel": ids, "wait": !args.no_wait}).to_string(),
        batches: BatchPlan {
            asked: Asked::Realtime,
            oversized: Oversized::Fail,
            most: MostInBatches::default(),
            poll: args.poll,
            waits: !args.no_wait,
            canary: false,
            by: None,
            servers: HashMap::new(),
            purpose: Purpose::Cancel(ids),
        },
        pace: PaceSettings { concurrency: None, rpm: None, tpm: None },
        in_doubt: InDoubt::Hold,
        reuse: true,
        limit: Some(0),
        sample: None,
        budget: Budget::default(),
        timeout: args.timeout,
    };
    execute(setup, how, store, context).await
}

/// Tells the provider alone, while a run of another process has the record.
async fn tell(
    args: &Args,
    chosen: &[BatchRecord],
    store: Store,
    context: &Context,
) -> Result<Exit, Failure> {
    let book = PriceBook::load(&store, &PricesArg::default())?;
    let setup = Setup::make(&store, (None, InDoubt::Hold.into(), &book), context).await?;
    let transport = Transport::new(args.timeout, setup.proxies())
        .map_err(|error| Failure::error("cannot set up the HTTP client").caused_by(&error))?;
    let mut told = Vec::new();
    for batch in chosen {
        match ask(batch, &setup, &transport).await {
            Ok(()) => told.push(batch.id),
            Err(why) => context.out.warn(&format!("batch {} was not cancelled: {why}", batch.id)),
        }
    }
    if context.out.is_json() {
        context.out.json_line(&json!({"event": "cancel_asked", "batches": told}))?;
    }
    let program = context.program();
    if !told.is_empty() {
        context.out.say(&format!(
            "the provider was asked to cancel {}; the run that is on collects what was done, and sends the rest again",
            count(told.len() as u64, "batch")
        ));
    }
    if told.len() == chosen.len() {
        context.out.hint(&format!(
            "to keep the rest from being sent, stop that run with Ctrl-C, then `{program} cancel --all`"
        ));
        return Ok(Exit::Done);
    }
    context
        .out
        .hint(&format!("stop the run that is on with Ctrl-C, then `{program} cancel --all`"));
    Ok(Exit::Error)
}

/// Asks the provider to end a batch. The error says why that did not work.
async fn ask(batch: &BatchRecord, setup: &Setup, transport: &Transport) -> Result<(), String> {
    let at_hand = "it is in the hands of the run that is on";
    let server = setup.servers.get(&batch.new.server).filter(|server| !server.is_embedded);
    let (Some(server), Some(id)) = (server, &batch.provider_id) else {
        return Err(at_hand.to_owned());
    };
    match step(batch.status) {
        Step::Look => server.ask_to_cancel(transport, id).await,
        Step::Collect => Err("it has ended, and the run that is on collects it".to_owned()),
        Step::Upload | Step::FindFile | Step::Create | Step::FindBatch | Step::Rest => {
            Err(at_hand.to_owned())
        }
    }
}
