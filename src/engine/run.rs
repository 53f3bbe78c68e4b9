//! A run from its first look at the file to its last commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::batches::{BatchServer, Cancel, Desk, DeskLane, DeskSettings, Gate, Slot, Trouble};
use super::dispatcher::{Dispatcher, Ended, Inbox, Outfit};
use super::feeder::Feeder;
use super::lane::Lane;
use super::task::{Task, encode};
use super::transport::Transport;
use super::world::World;
use crate::domain::{
    BatchId, Event, HowEnded, Oversized, Problem, RequestId, RowId, RunId, Tally, UnixMs,
};
use crate::machine::batch::{Step, step};
use crate::machine::budget::Budget;
use crate::machine::pace::{Pace, PaceSettings};
use crate::machine::packing::BatchLimits;
use crate::machine::plan::{Left, Liveness};
use crate::machine::queue::Queue;
use crate::machine::request::InDoubtPolicy;
use crate::machine::route::{Asked, HasBatches};
use crate::store::{BatchRecord, Codec, Fuse, PromptRecord, Store, StoreError};

/// For how long a provider's word on its queue, and its rates, are remembered: accounts grow.
pub const LIMITS_KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Told of every event, on the dispatcher's own thread: must be quick.
pub(super) type Watch = Box<dyn Fn(Event) + Send>;

/// What a person may say to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Send no more, let what is in flight land.
    Interrupt,
    /// The file turned out to be damaged: why.
    Damaged(String),
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
    /// The rows that are taken up, where a pilot takes only some. `limit` says how many requests that are.
    pub sample: Option<Vec<RowId>>,
    /// What may be spent, and what counts against it by now.
    pub budget: Budget,
    /// What goes into batches, and how.
    pub batches: BatchPlan,
    /// The client.
    pub transport: Transport,
    /// For jitter.
    pub seed: u64,
    /// What it stands on.
    pub world: World,
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

/// What a person asked of a run's batches, and where they are.
pub struct BatchPlan {
    /// By which way requests are to go.
    pub asked: Asked,
    /// What becomes of those that find no room.
    pub oversized: Oversized,
    /// The most requests, bytes and tokens in a batch; `None` leaves it to the provider.
    pub most: MostInBatches,
    /// The longest pause between two looks.
    pub poll: Duration,
    /// Whether the run stays until its batches have ended.
    pub waits: bool,
    /// Whether one request of a new prompt goes ahead.
    pub canary: bool,
    /// When what batches have not answered goes by calls.
    pub by: Option<UnixMs>,
    /// The servers of the run's tasks and of all batches that are not done with, by their name on record.
    pub servers: HashMap<String, Arc<BatchServer>>,
    /// What else than running is wanted.
    pub purpose: Purpose,
}

/// The bounds of a batch, as a person set them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MostInBatches {
    /// Requests in one batch.
    pub requests: Option<u64>,
    /// Bytes in one input file.
    pub bytes: Option<u64>,
    /// Tokens that may wait in the provider's queue for one model.
    pub tokens: Option<u64>,
}

/// What a run is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To get answered what is due.
    Answer,
    /// To cancel these batches and collect what they did.
    Cancel(Vec<BatchId>),
}

/// Opens further connections for reading.
pub type Opens = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// Runs. `open` opens further connections for reading; `store` becomes the writer's and comes back.
pub async fn run(
    plan: RunPlan,
    store: Store,
    open: Opens,
    (control, watch): (UnboundedReceiver<Control>, Box<dyn Fn(Event) + Send>),
) -> Result<(Store, HowEnded, Tally), EngineError> {
    run_with(plan, store, open, (control, watch), None).await
}

/// The same, for a test that may want it to break off between two commits.
#[doc(hidden)]
pub async fn run_with(
    plan: RunPlan,
    store: Store,
    open: Opens,
    (control, watch): (UnboundedReceiver<Control>, Box<dyn Fn(Event) + Send>),
    fuse: Option<Fuse>,
) -> Result<(Store, HowEnded, Tally), EngineError> {
    let mut store = store;
    let tasks = Arc::new(plan.tasks);
    let is_for_answers = plan.batches.purpose == Purpose::Answer;
    let now = plan.world.clock.time_of_day();
    let before = match is_for_answers {
        true => take_stock(&mut store, &tasks, plan.in_doubt, (now, &watch))?,
        false => left(&store, &tasks, plan.in_doubt)?,
    };
    // What a cancellation makes due is left to the next run.
    let limit = if is_for_answers { plan.limit } else { Some(0) };
    let due: u64 = before.iter().map(Left::due).sum::<u64>().min(limit.unwrap_or(u64::MAX));
    let answered = before.iter().map(|left| left.answered).sum();
    store.forget_queue_limits(UnixMs(now.0 - LIMITS_KEPT_MS))?;
    store.forget_rate_limits(UnixMs(now.0 - LIMITS_KEPT_MS))?;
    let open_batches = store.open_batches()?;
    let in_batches = open_batches.iter().map(|batch| batch.requests).sum();
    watch(Event::Started { run: plan.run, due, answered, in_batches });
    prepare_codecs(&mut store, &tasks)?;

    let layout = Layout::of(&tasks, &open_batches);
    let lanes = layout.make_lanes(plan.pace, &store)?;
    let desk = desk(&store, (&tasks, &layout), (open_batches, &plan.batches), &before)?;
    let (fed_out, fed) = unbounded_channel();
    let (landing, landed) = unbounded_channel();
    let (stepping, stepped) = unbounded_channel();
    let (receipts_out, receipts) = unbounded_channel();
    let tell = move |group| {
        // Nobody listens only after the dispatcher has ended.
        let _ = receipts_out.send(group);
    };
    let (writer, scribe) = plan.world.start_writer(store, tell, fuse)?;
    let budget = Arc::new(AtomicU64::new(limit.unwrap_or(u64::MAX)));
    let (mut carried, mut feeders) = (Vec::new(), Vec::new());
    for lane in 0..lanes.len() {
        let (ask, asked) = unbounded_channel();
        feeders.push(ask);
        let is_mine = |task: &usize| layout.lane_of[*task] == lane && tasks[*task].prompt.is_live;
        let feeder = Feeder {
            lane,
            tasks: Arc::clone(&tasks),
            mine: (0..tasks.len()).filter(is_mine).collect(),
            store: open()?,
            budget: Arc::clone(&budget),
            reuse: plan.reuse,
            out: fed_out.clone(),
        };
        carried.push(plan.world.start_feeder(feeder, asked)?);
    }
    drop(fed_out);
    let first = match is_for_answers {
        true => layout.due_by_lane(&before, limit),
        false => vec![0; lanes.len()],
    };
    let outfit = Outfit {
        tasks: Arc::clone(&tasks),
        lane_of: layout.lane_of,
        lanes,
        feeders,
        desk,
        budget: plan.budget,
        sample: plan.sample.map(Arc::new),
        writer,
        transport: plan.transport,
        world: plan.world,
        by: plan.batches.by,
        run: plan.run,
        seed: plan.seed,
        landing,
        stepping,
        open: Arc::new(move || open().map_err(|error| Trouble::Record(error.to_string()))),
        watch,
        answered_before: before.iter().map(|left| left.answered > 0).collect(),
    };
    let inbox = Inbox { fed, landed, stepped, receipts, control };
    let mut dispatcher = Dispatcher::new(outfit);
    dispatcher.feed_first(first);
    let work = Box::pin(dispatcher.work(inbox));
    let Ended { writer, tally, stopped, left_behind, learned } =
        plan.world.hands.carry(work).await.ok_or(EngineError::WriterGone)?;
    // They have ended, or end at their next word: nobody listens to them any more.
    for feeder in carried {
        feeder.end().await;
    }
    let mut store = scribe.finish(writer).await.ok_or(EngineError::WriterGone)?;
    // A record that is in trouble is left alone: what is lost here is advice.
    if !matches!(stopped, Some(Problem::Record { .. })) {
        let now = plan.world.clock.time_of_day();
        let mut each = layout.lanes.iter().zip(learned);
        each.try_for_each(|(of, rates)| store.learn_rate_limit(of, rates, now))?;
    }
    let how = match stopped {
        // What is set aside for them may come back.
        Some(Problem::Budget { .. }) if left_behind.batches > 0 => {
            HowEnded::Waiting { batches: left_behind.batches, requests: left_behind.requests }
        }
        Some(problem) => HowEnded::Stopped(problem),
        None if left_behind.batches > 0 => {
            HowEnded::Waiting { batches: left_behind.batches, requests: left_behind.requests }
        }
        None if left_behind.refused > 0 => HowEnded::SomeFailed,
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
    (now, watch): (UnixMs, &dyn Fn(Event)),
) -> Result<Vec<Left>, StoreError> {
    store.recover(now)?;
    let before = left(store, tasks, in_doubt)?;
    let is_held = in_doubt == InDoubtPolicy::Hold;
    let requests = before.iter().map(|left| if is_held { left.held } else { left.in_doubt }).sum();
    if requests > 0 {
        watch(Event::InDoubt { requests, is_held });
    }
    Ok(before)
}

/// Counts what is left of each task, with nothing in flight; nothing of those that are not live.
fn left(store: &Store, tasks: &[Task], in_doubt: InDoubtPolicy) -> Result<Vec<Left>, StoreError> {
    let prompts: Vec<PromptRecord> = tasks.iter().map(|task| task.prompt.clone()).collect();
    let mut left = store.left(&prompts, in_doubt, Liveness::Idle)?;
    for (left, task) in left.iter_mut().zip(tasks) {
        if !task.prompt.is_live {
            *left = Left::default();
        }
    }
    Ok(left)
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

/// One lane for each model at each server, and which one each task goes by.
struct Layout {
    /// The name of the server and of the model.
    lanes: Vec<(String, String)>,
    lane_of: Vec<usize>,
}

impl Layout {
    fn of(tasks: &[Task], batches: &[BatchRecord]) -> Self {
        let mut layout = Self { lanes: Vec::new(), lane_of: Vec::new() };
        for task in tasks {
            let lane = layout.lane(&task.server.name, &task.prompt.spec.model.to_string());
            layout.lane_of.push(lane);
        }
        for batch in batches {
            layout.lane(&batch.new.server, &batch.new.model);
        }
        layout
    }

    fn lane(&mut self, server: &str, model: &str) -> usize {
        let is_it = |(at, of): &(String, String)| at == server && of == model;
        self.lanes.iter().position(is_it).unwrap_or_else(|| {
            self.lanes.push((server.to_owned(), model.to_owned()));
            self.lanes.len() - 1
        })
    }

    /// Makes the lanes, with what is remembered of each one's rates.
    fn make_lanes(&self, pace: PaceSettings, store: &Store) -> Result<Vec<Lane>, StoreError> {
        let lane = |(server, model): &(String, String)| {
            Ok(Lane::new(Pace::new(pace, store.rate_limit(server, model)?)))
        };
        self.lanes.iter().map(lane).collect()
    }

    fn due_by_lane(&self, before: &[Left], limit: Option<u64>) -> Vec<u64> {
        let mut due = vec![0u64; self.lanes.len()];
        for (left, lane) in before.iter().zip(&self.lane_of) {
            due[*lane] += left.due();
        }
        let most = limit.unwrap_or(u64::MAX);
        due.into_iter().map(|due| due.min(most)).collect()
    }
}

/// Sets up the batches: the lanes' limits, the gates of new prompts, and what earlier runs left.
fn desk(
    store: &Store,
    (tasks, layout): (&[Task], &Layout),
    (open, plan): (Vec<BatchRecord>, &BatchPlan),
    before: &[Left],
) -> Result<Desk, StoreError> {
    let settings = DeskSettings {
        asked: plan.asked,
        oversized: plan.oversized,
        waits: plan.waits,
        poll: plan.poll,
    };
    let mut lanes = Vec::new();
    for (index, (server, model)) in layout.lanes.iter().enumerate() {
        let known = plan.servers.get(server).cloned();
        let mine = layout.lane_of.iter().position(|lane| *lane == index);
        let has = mine.map_or(HasBatches::No, |task| tasks[task].server.has_batches);
        let profile = known.as_ref().map(|server| server.profile);
        let limits = BatchLimits {
            requests: least(plan.most.requests, profile.map(|profile| profile.max_requests)),
            bytes: least(plan.most.bytes, profile.map(|profile| profile.max_bytes)),
            tokens: None,
        };
        // A person's word counts for more than what the provider said on some other day.
        let queue = match plan.most.tokens {
            Some(tokens) => Queue::configured(tokens),
            None => Queue::default().and_learned(store.queue_limit(server, model)?),
        };
        lanes.push(DeskLane::new((server.clone(), model.clone()), (known, has), (limits, queue)));
    }
    let mut gates = Vec::new();
    for (task, left) in tasks.iter().zip(before) {
        let is_new = left.answered == 0 && !store.has_been_in_a_batch(task.prompt.id)?;
        let needs_one = plan.canary && plan.asked == Asked::Auto && is_new;
        gates.push(if needs_one { Gate::NeedsCanary } else { Gate::Open });
    }
    let mut desk = Desk::new(settings, lanes, gates);
    for record in open {
        let Some(server) = plan.servers.get(&record.new.server) else { continue };
        let is_it =
            |(at, of): &(String, String)| *at == record.new.server && *of == record.new.model;
        let Some(lane) = layout.lanes.iter().position(is_it) else { continue };
        let is_unsent = matches!(step(record.status), Step::Upload | Step::FindFile | Step::Create);
        let is_wanted = match &plan.purpose {
            Purpose::Answer => plan.asked == Asked::Realtime && is_unsent,
            Purpose::Cancel(batches) if !batches.contains(&record.id) => continue,
            Purpose::Cancel(_) => true,
        };
        let mut slot = Slot::adopt(record, Arc::clone(server), lane);
        if is_wanted && slot.cancel == Cancel::No {
            slot.cancel = Cancel::Wanted;
        }
        desk.adopt(slot);
    }
    Ok(desk)
}

fn least(asked: Option<u64>, most: Option<u64>) -> u64 {
    [asked, most].into_iter().flatten().min().unwrap_or(u64::MAX)
}
