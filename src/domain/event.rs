//! What a run tells whoever watches it: all that the engine and the reporters know of each other.

use std::time::Duration;

use super::{FailureClass, NanoUsd, Outcome, Route, RunId, State, Usage};

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
    /// Stopped early.
    Stopped(Problem),
}

impl HowEnded {
    /// Returns its word in the record.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SomeFailed => "some_failed",
            Self::Stopped(Problem::Interrupted) => "interrupted",
            Self::Stopped(
                Problem::Provider { .. }
                | Problem::EveryRequestFails { .. }
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
    /// What the provider counted.
    pub usage: Usage,
    /// What it cost, as far as prices are known.
    pub cost: NanoUsd,
    /// Replies that may be billed and whose cost is not known.
    pub unpriced: u64,
}
