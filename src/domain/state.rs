//! What the file proves about a request, and by which way it is sent.

use super::FailureClass;

/// The state of a request, as the record proves it. Moves are in [`crate::machine::request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is under way; it may be due.
    Pending,
    /// Promised to a realtime call that has no outcome yet.
    InFlight,
    /// Promised to a batch that has no outcome for it yet.
    InBatch,
    /// Promised to a realtime call by a process that is gone; it may have been billed.
    InDoubt,
    /// An answer is on file.
    Answered,
    /// The last reply was cut by the token limit.
    Truncated,
    /// The last attempt failed.
    Failed(FailureClass),
}

impl State {
    /// The words of the states, in the order in which they are reported.
    pub const WORDS: [&'static str; 7] =
        ["pending", "in_flight", "in_batch", "in_doubt", "answered", "truncated", "failed"];

    /// Returns the state's word in SQL, JSON and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in_flight",
            Self::InBatch => "in_batch",
            Self::InDoubt => "in_doubt",
            Self::Answered => "answered",
            Self::Truncated => "truncated",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns the failure class, if it failed.
    pub fn class(self) -> Option<FailureClass> {
        match self {
            Self::Failed(class) => Some(class),
            Self::Pending
            | Self::InFlight
            | Self::InBatch
            | Self::InDoubt
            | Self::Answered
            | Self::Truncated => None,
        }
    }

    /// Returns the state that a word and, for a failure, its class stand for.
    pub fn parse(word: &str, class: Option<&str>) -> Option<Self> {
        match word {
            "pending" => Some(Self::Pending),
            "in_flight" => Some(Self::InFlight),
            "in_batch" => Some(Self::InBatch),
            "in_doubt" => Some(Self::InDoubt),
            "answered" => Some(Self::Answered),
            "truncated" => Some(Self::Truncated),
            "failed" => class.and_then(FailureClass::parse).map(Self::Failed),
            _ => None,
        }
    }
}

/// The way by which an attempt goes to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// One call, answered while we wait.
    Realtime,
    /// A line in a batch job.
    Batch,
}

impl Route {
    /// Returns the route's word in SQL, JSON and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Batch => "batch",
        }
    }
}
/// What becomes of requests that fit into no batch, or whose batch is refused for its tokens
/// (`--oversized`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversized {
    /// They go realtime in the same run, under the same budget.
    Realtime,
    /// They wait until the provider's queue has drained.
    Wait,
    /// They are reported.
    Fail,
}

impl Oversized {
    /// Returns its word on the command line and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Wait => "wait",
            Self::Fail => "fail",
        }
    }
}
