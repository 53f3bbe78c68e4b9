//! What a run stands on: its clock, its threads, its tasks. A person's run has those of the machine.
//!
//! A simulated one has a single thread and the runtime's time, so that a test can let it live through
//! hours in an instant, and through the same hours again: nothing in it depends on what else the machine
//! does. The dispatcher, the workers and the feeders are the same in both; only who carries them differs.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::feeder::{Feed, Feeder};
use crate::store::{Fuse, Receipt, Store, Turn, Writer, Writing};

/// The longest that a simulated commit takes.
const LONGEST_COMMIT_MS: u64 = 40;

/// How long a commit takes on a usual disk.
const USUAL_COMMIT_MS: u64 = 10;
/// What is committed together there.
const MOST_IN_A_COMMIT: usize = 1024;

/// What a run stands on.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub(super) clock: Clock,
    pub(super) hands: Hands,
}

/// Who carries out what must not hold up the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hands {
    /// Threads, and tasks of a runtime that may have several.
    Threads,
    /// Tasks of a `LocalSet` alone.
    OneThread(Commits),
}

/// How commits go where one thread does everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// Their durations and sizes are drawn from the seed, so that whatever can come between comes.
    Drawn { seed: u64 },
    /// As soon and as large as on a disk.
    AsOnADisk,
}

/// A thread or task that ends by itself.
pub(super) enum Carried {
    Thread(std::thread::JoinHandle<()>),
    Task(JoinHandle<()>),
}

/// Whoever has the store while a run writes.
pub(super) enum Scribe {
    Thread,
    Task(JoinHandle<Store>),
}

impl World {
    /// Returns the machine's.
    pub fn real() -> Self {
        Self { clock: Clock::start(), hands: Hands::Threads }
    }

    /// Returns one that lives on a single thread, inside of a `LocalSet`, and by `clock`.
    #[doc(hidden)]
    pub fn simulated(clock: Clock, seed: u64) -> Self {
        Self { clock, hands: Hands::OneThread(Commits::Drawn { seed }) }
    }

    /// Returns one that lives on a single thread, inside of a `LocalSet`, by `clock`, and is else as the machine's:
    /// for a run that is only rehearsed.
    pub fn rehearsed(clock: Clock) -> Self {
        Self { clock, hands: Hands::OneThread(Commits::AsOnADisk) }
    }

    /// Starts whoever writes the record.
    pub(super) fn start_writer(
        &self,
        store: Store,
        receipts: impl Fn(Vec<Receipt>) + Send + 'static,
        fuse: Option<Fuse>,
    ) -> std::io::Result<(Writer, Scribe)> {
        match self.hands {
            Hands::Threads => Ok((Writer::start_with(store, receipts, fuse)?, Scribe::Thread)),
            Hands::OneThread(commits) => {
                let stirred = Arc::new(Notify::new());
                let stir = Arc::clone(&stirred);
                let (writer, writing) = Writer::by_hand(store, receipts, move || stir.notify_one());
                let work = write_by_turns(writing, stirred, commits);
                Ok((writer, Scribe::Task(tokio::task::spawn_local(work))))
            }
        }
    }

    /// Starts a feeder, which ends once nobody can ask it any more.
    pub(super) fn start_feeder(
        &self,
        feeder: Feeder,
        asked: UnboundedReceiver<Feed>,
    ) -> std::io::Result<Carried> {
        match self.hands {
            Hands::Threads => {
                let runtime = Handle::current();
                let name = format!("overnight-feeder-{}", feeder.lane);
                let thread = std::thread::Builder::new().name(name);
                let work = move || runtime.block_on(feeder.work(asked));
                Ok(Carried::Thread(thread.spawn(work)?))
            }
            Hands::OneThread(_) => Ok(Carried::Task(tokio::task::spawn_local(feeder.work(asked)))),
        }
    }
}

impl Hands {
    /// Starts a task.
    pub(super) fn spawn<T: Send + 'static>(
        self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match self {
            Self::Threads => tokio::spawn(work),
            Self::OneThread(_) => tokio::task::spawn_local(work),
        }
    }

    /// Does something to its end beside the tasks that it waits for: they wake it without waking a thread. `None` if it
    /// broke off.
    pub(super) async fn carry<T: Send + 'static>(
        self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Threads => tokio::spawn(work).await.ok(),
            Self::OneThread(_) => Some(work.await),
        }
    }

    /// Does something that takes a while where it holds up nobody; `None` if it broke off.
    pub(super) async fn offload<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await.ok(),
            Self::OneThread(_) => Some(work()),
        }
    }
}

impl Carried {
    /// Waits for its end, which has come or comes at its next word.
    pub(super) async fn end(self) {
        match self {
            Self::Thread(thread) => drop(tokio::task::spawn_blocking(move || thread.join()).await),
            Self::Task(task) => drop(task.await),
        }
    }
}

impl Scribe {
    /// Waits until all that was ordered is written and returns the store; `None` if it broke off.
    pub(super) async fn finish(self, writer: Writer) -> Option<Store> {
        match self {
            Self::Thread => writer.finish(),
            Self::Task(task) => {
                drop(writer);
                task.await.ok()
            }
        }
    }
}

/// Writes as the writer's thread would, with commits that take their time.
async fn write_by_turns(mut writing: Writing, stirred: Arc<Notify>, commits: Commits) -> Store {
    let mut rng = fastrand::Rng::with_seed(match commits {
        Commits::Drawn { seed } => seed,
        Commits::AsOnADisk => 0,
    });
    loop {
        let (takes_ms, most) = match commits {
            Commits::Drawn { .. } => (rng.u64(..LONGEST_COMMIT_MS), 1 << rng.u32(..10)),
            Commits::AsOnADisk => (USUAL_COMMIT_MS, MOST_IN_A_COMMIT),
        };
        tokio::time::sleep(Duration::from_millis(takes_ms)).await;
        match writing.turn(most) {
            Turn::Wrote => {}
            Turn::Nothing => stirred.notified().await,
            Turn::Over => return writing.into_store(),
        }
    }
}
