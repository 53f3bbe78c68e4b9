//! What a run tells whoever watches it: all that the engine and the reporters know of each other.

use std::time::Duration;

use super::{
    BatchCounts, BatchId, BatchStatus, FailureClass, NanoUsd, Outcome, Oversized, Route, RunId,
    State, Usage,
};

/// Something that happened in a run. Holds no contents of a row, a request or a reply.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run has begun.
    Started {
        /// Its id.
        run: RunId,
        /// Requests that it will try to get answered.
        due: u64,
        /// Requests that have an answer already.
        answered: u64,
        /// Requests in batches of earlier runs that are not done with.
        in_batches: u64,
    },
    /// The last run stopped before it could record these replies.
    InDoubt {
        /// How many requests may have been sent.
        requests: u64,
        /// Whether they are left for a person; else they are sent again.
        is_held: bool,
    },
    /// An attempt ended and is on record.
    Settled {
        /// Position of the row, from 1.
        position: i64,
        /// Name of the prompt.
        prompt: String,
        /// The attempt's number, from 1.
        attempt: u32,
        /// By which way it went.
        route: Route,
        /// How it ended.
        outcome: Outcome,
        /// What went wrong, in one line.
        error: Option<String>,
        /// From sending to the whole reply.
        took: Duration,
        /// What the provider counted.
        usage: Option<Usage>,
        /// What it cost, where the price is known.
        cost: Option<NanoUsd>,
        /// Whether the same request is tried again in this run.
        is_retried: bool,
    },
    /// A request got the reply of another one with the same body.
    Shared {
        /// Position of the row, from 1.
        position: i64,
        /// Name of the prompt.
        prompt: String,
        /// What it came to.
        state: State,
    },
    /// A row's request could not be made.
    NotRendered {
        /// Position of the row, from 1.
        position: i64,
        /// Name of the prompt.
        prompt: String,
        /// Why.
        error: String,
    },
    /// A server takes no JSON Schema, so a prompt's choices or schema are asked for in words from now on.
    AsksInWords {
        /// Name of the prompt.
        prompt: String,
    },
    /// One request of a new prompt goes ahead by a call, before its first batch.
    Canary {
        /// Position of its row, from 1.
        position: i64,
        /// Name of the prompt.
        prompt: String,
    },
    /// A batch has another status.
    Batch(BatchNews),
    /// A call for a batch failed, and is tried again.
    BatchTrouble {
        /// Its id, once it is on record.
        batch: Option<BatchId>,
        /// Where it stands.
        status: BatchStatus,
        /// What went wrong, in one line.
        error: String,
        /// When it is tried again.
        again_in: Duration,
    },
    /// The provider's queue has no room for a batch.
    QueueFull {
        /// The batch.
        batch: Option<BatchId>,
        /// The model whose queue it is.
        model: String,
        /// The tokens that the provider says it lets wait.
        told: Option<u64>,
        /// The tokens that batches are held to from now on.
        limit: Option<u64>,
    },
    /// Not all requests find room in batches.
    Oversized {
        /// The model.
        model: String,
        /// The tokens that may wait, where that is what they are too many for.
        limit: Option<u64>,
        /// What happens to them.
        policy: Oversized,
    },
    /// Batch after batch brought nothing, so requests go by calls.
    BatchesGivenUp {
        /// The model.
        model: String,
        /// How many in a row.
        batches: u32,
    },
    /// The server has no batches, so requests go by calls.
    NoBatchApi {
        /// The model.
        model: String,
    },
    /// The deadline has passed: what batches have not answered goes by calls.
    DeadlinePassed {
        /// Batches that are cancelled.
        batches: u64,
        /// Requests in them.
        requests: u64,
    },
    /// Nothing is sent for a while.
    Paused {
        /// What made it so.
        class: FailureClass,
        /// For how long, if nothing changes.
        pause: Duration,
    },
    /// The record could not be written and is tried again.
    RecordTrouble {
        /// What the disk says.
        error: String,
    },
    /// No more is sent; what is in flight lands.
    Stopping {
        /// Why.
        why: Problem,
        /// How many are in flight.
        in_flight: u64,
    },
    /// The run is over.
    Finished {
        /// How.
        how: HowEnded,
        /// What it did.
        tally: Tally,
    },
}

/// How a batch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchNews {
    /// Its id in the project.
    pub id: BatchId,
    /// Its id at the provider.
    pub provider_id: Option<String>,
    /// Its status.
    pub status: BatchStatus,
    /// Requests in it.
    pub requests: u64,
    /// The provider's counts.
    pub counts: Option<BatchCounts>,
    /// Requests that it answered, as far as its results are on record in this run.
    pub answered: u64,
    /// Requests of it that are due again, as far as its results are on record in this run.
    pub due_again: u64,
    /// Why it was refused, failed or dropped.
    pub error: Option<String>,
    /// Whether its status is another one than before.
    pub is_news: bool,
}

/// Why a run sends no more before all is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Ctrl-C.
    Interrupted,
    /// A failure that every other request would meet as well.
    Provider {
        /// Its class.
        class: FailureClass,
        /// What the provider said, in one line.
        message: String,
    },
    /// The first requests of a prompt were all refused alike.
    EveryRequestFails {
        /// The prompt.
        prompt: String,
        /// The class.
        class: FailureClass,
        /// How many.
        requests: u64,
        /// What the provider said of the last one.
        message: String,
    },
    /// The request that went ahead of a prompt's first batch was refused.
    CanaryRefused {
        /// The prompt.
        prompt: String,
        /// The class.
        class: FailureClass,
        /// What the provider said.
        message: String,
    },
    /// Batches were asked for, and the server has none.
    NoBatchApi {
        /// The model.
        model: String,
        /// What the server said.
        message: String,
    },
    /// Batch after batch was refused or failed as a whole.
    BatchesFail {
        /// Their model.
        model: String,
        /// How many in a row.
        batches: u32,
        /// What the provider said of the last one.
        message: String,
    },
    /// A batch may have been created, and the provider's batches cannot be listed.
    BatchInDoubt {
        /// Which.
        batch: Option<BatchId>,
        /// What the provider said.
        message: String,
    },
    /// The provider knows neither a batch nor its input file: the key may be of another project.
    BatchUnknown {
        /// Which.
        batch: Option<BatchId>,
        /// Its id at the provider.
        provider_id: String,
    },
    /// What is due may cost more than may still be spent, and nothing under way can give any of it back.
    Budget {
        /// What may be spent in all.
        ceiling: NanoUsd,
        /// What was spent, or may have been.
        counted: NanoUsd,
        /// The most that the next request may cost, where that is known.
        needed: Option<NanoUsd>,
    },
    /// The record cannot be written.
    Record {
        /// What the disk says.
        error: String,
    },
}

/// How a run ended; each is an exit code of `overnight run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// Every due request is answered.
    Done,
    /// Finished, with some failed, truncated or held.
    SomeFailed,
    /// Left while batches go on at the provider.
    Waiting {
        /// How many batches.
        batches: u64,
        /// Requests in them.
        requests: u64,
    },
    /// Stopped early.
    Stopped(Problem),
}

impl HowEnded {
    /// Returns its word in the record.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SomeFailed => "some_failed",
            Self::Waiting { .. } => "waiting",
            Self::Stopped(Problem::Interrupted) => "interrupted",
            Self::Stopped(Problem::Budget { .. }) => "budget",
            Self::Stopped(
                Problem::Provider { .. }
                | Problem::EveryRequestFails { .. }
                | Problem::CanaryRefused { .. }
                | Problem::NoBatchApi { .. }
                | Problem::BatchesFail { .. }
                | Problem::BatchInDoubt { .. }
                | Problem::BatchUnknown { .. }
                | Problem::Record { .. },
            ) => "error",
        }
    }
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls made.
    pub sent: u64,
    /// Requests put into batches.
    pub batched: u64,
    /// Requests answered by a call.
    pub answered: u64,
    /// Requests answered by sharing another one's reply.
    pub shared: u64,
    /// Requests that failed for good, or ran out of attempts.
    pub failed: u64,
    /// Requests cut by the token limit that could not be raised further.
    pub truncated: u64,
    /// Calls tried again.
    pub retried: u64,
    /// Calls whose outcome could not be put on record: they stand in doubt.
    pub unrecorded: u64,
    /// What the provider counted.
    pub usage: Usage,
    /// What it cost, as far as prices are known.
    pub cost: NanoUsd,
    /// Replies that may be billed and whose cost is not known.
    pub unpriced: u64,
}
