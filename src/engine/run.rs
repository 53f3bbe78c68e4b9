//! A run from its first look at the file to its last commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::clock::Clock;
use super::dispatcher::{Dispatcher, Inbox, Outfit};
use super::feeder::Feeder;
use super::lane::Lane;
use super::task::{Task, encode};
use super::transport::Transport;
use crate::domain::{Event, HowEnded, RequestId, RowId, RunId, Tally};
use crate::machine::pace::{Pace, PaceSettings};
use crate::machine::plan::{Left, Liveness};
use crate::machine::request::InDoubtPolicy;
use crate::store::{Codec, PromptRecord, Store, StoreError, Writer};

/// Told of every event, on the dispatcher's own thread: must be quick.
pub(super) type Watch = Box<dyn Fn(Event) + Send>;

/// What a person may say to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Send no more, let what is in flight land.
    Interrupt,
}

/// All that a run needs.
pub struct RunPlan {
    /// Its id.
    pub run: RunId,
    /// Its prompts.
    pub tasks: Vec<Task>,
    /// What a person asked of the pace.
    pub pace: PaceSettings,
    /// What to do with requests in doubt.
    pub in_doubt: InDoubtPolicy,
    /// Whether equal requests are bought once.
    pub reuse: bool,
    /// At most so many requests are taken up.
    pub limit: Option<u64>,
    /// The client.
    pub transport: Transport,
    /// For jitter.
    pub seed: u64,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The record cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started, or a body not be packed.
    #[error("cannot start the run")]
    Start(#[from] std::io::Error),
    /// The writer thread broke.
    #[error("the thread that writes the record has stopped")]
    WriterGone,
}

/// Runs. `open` opens further connections for reading; `store` becomes the writer's and comes back.
pub async fn run(
    plan: RunPlan,
    store: Store,
    open: impl Fn() -> Result<Store, StoreError>,
    (control, watch): (UnboundedReceiver<Control>, Box<dyn Fn(Event) + Send>),
) -> Result<(Store, HowEnded, Tally), EngineError> {
    let mut store = store;
    let tasks = Arc::new(plan.tasks);
    let before = take_stock(&mut store, &tasks, plan.in_doubt, &watch)?;
    let due: u64 = before.iter().map(Left::due).sum::<u64>().min(plan.limit.unwrap_or(u64::MAX));
    let answered = before.iter().map(|left| left.answered).sum();
    watch(Event::Started { run: plan.run, due, answered });
    prepare_codecs(&mut store, &tasks)?;

    let (lanes, lane_of) = lanes(&tasks, plan.pace);
    let (fed_out, fed) = unbounded_channel();
    let (landing, landed) = unbounded_channel();
    let (receipts_out, receipts) = unbounded_channel();
    let writer = Writer::start(store, move |group| {
        // Nobody listens only after the dispatcher has ended.
        let _ = receipts_out.send(group);
    })?;
    let budget = Arc::new(AtomicU64::new(plan.limit.unwrap_or(u64::MAX)));
    let mut threads = Vec::new();
    for lane in 0..lanes.len() {
        let mine = (0..tasks.len()).filter(|task| lane_of[*task] == lane).collect();
        let feeder = Feeder {
            lane,
            tasks: Arc::clone(&tasks),
            mine,
            store: open()?,
            budget: Arc::clone(&budget),
            reuse: plan.reuse,
            out: fed_out.clone(),
        };
        let runtime = Handle::current();
        let name = format!("overnight-feeder-{lane}");
        threads.push(std::thread::Builder::new().name(name).spawn(move || feeder.feed(&runtime))?);
    }
    drop(fed_out);
    let outfit = Outfit {
        tasks: Arc::clone(&tasks),
        lane_of,
        lanes,
        writer,
        transport: plan.transport,
        clock: Clock::start(),
        run: plan.run,
        seed: plan.seed,
        landing,
        watch,
        answered_before: before.iter().map(|left| left.answered > 0).collect(),
    };
    let inbox = Inbox { fed, landed, receipts, control };
    let (writer, tally, stopped) = Dispatcher::new(outfit).work(inbox).await;
    // They have ended, or end at their next word: nobody listens to them any more.
    for thread in threads {
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
    let store = writer.finish().ok_or(EngineError::WriterGone)?;
    let how = match stopped {
        Some(problem) => HowEnded::Stopped(problem),
        None => how_it_stands(&store, &tasks, plan.in_doubt)?,
    };
    Ok((store, how, tally))
}

/// Says whether anything is left that a person has to look at.
fn how_it_stands(
    store: &Store,
    tasks: &[Task],
    in_doubt: InDoubtPolicy,
) -> Result<HowEnded, StoreError> {
    let stuck: u64 = left(store, tasks, in_doubt)?.iter().map(Left::stuck).sum();
    Ok(if stuck == 0 { HowEnded::Done } else { HowEnded::SomeFailed })
}

/// Puts what a crash left in doubt, and counts what is left of each task.
fn take_stock(
    store: &mut Store,
    tasks: &[Task],
    in_doubt: InDoubtPolicy,
    watch: &dyn Fn(Event),
) -> Result<Vec<Left>, StoreError> {
    store.recover(Clock::now())?;
    let before = left(store, tasks, in_doubt)?;
    let is_held = in_doubt == InDoubtPolicy::Hold;
    let requests = before.iter().map(|left| if is_held { left.held } else { left.in_doubt }).sum();
    if requests > 0 {
        watch(Event::InDoubt { requests, is_held });
    }
    Ok(before)
}

/// Counts what is left of each task, with nothing in flight.
fn left(store: &Store, tasks: &[Task], in_doubt: InDoubtPolicy) -> Result<Vec<Left>, StoreError> {
    let prompts: Vec<PromptRecord> = tasks.iter().map(|task| task.prompt.clone()).collect();
    store.left(&prompts, in_doubt, Liveness::Idle)
}

/// Finds each prompt's dictionaries, and makes the one for bodies from its first due body.
fn prepare_codecs(store: &mut Store, tasks: &[Task]) -> Result<(), EngineError> {
    for task in tasks {
        let prompt = task.prompt.id;
        if let Some(codec) = store.codec(prompt, "reply")? {
            let _ = task.reply_codec.set(codec);
        }
        let codec = if let Some(codec) = store.codec(prompt, "body")? {
            codec
        } else {
            let first = store.unasked_rows(prompt, RowId(0), 1)?;
            let first = match first.is_empty() {
                false => first,
                true => store.open_requests(prompt, RequestId(0), 1)?,
            };
            let messages = first.first().and_then(|due| task.template.render(&due.cells).ok());
            let Some(messages) = messages else { continue };
            let first = encode(task, &messages, task.prompt.spec.max_tokens, None)?;
            let bytes = Codec::dictionary_of(&first.bytes);
            Codec::with(store.add_dictionary(prompt, "body", bytes)?, bytes)
        };
        let _ = task.body_codec.set(codec);
    }
    Ok(())
}

/// One lane for each model at each server.
fn lanes(tasks: &[Task], pace: PaceSettings) -> (Vec<Lane>, Vec<usize>) {
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    let mut lanes = Vec::new();
    let lane_of = tasks
        .iter()
        .map(|task| {
            let host = task.server.url.authority().to_owned();
            *known.entry((host, task.prompt.spec.model.to_string())).or_insert_with(|| {
                lanes.push(Lane::new(Pace::new(pace)));
                lanes.len() - 1
            })
        })
        .collect();
    (lanes, lane_of)
}
