//! Batches of a run: how requests get their places, and the hands that carry a batch through its life.
//!
//! ```text
//!   job ──▶ desk: which batch has room? ──promise──▶ planned ──▶ upload ──▶ create ──▶ look … ──▶ collect
//!             └─ none: realtime, wait or fail         each arrow: commit ──receipt──▶ one call ──▶ what came of it
//! ```
//!
//! [`desk`] decides and holds no socket; `steps`, `upload` and `collect` make calls and decide
//! nothing; the dispatcher joins them. What a crash or a lost reply leaves open is looked for at the
//! provider by the batch's token before anything is sent again.

mod collect;
mod desk;
mod slot;
mod steps;
mod upload;

pub(super) use collect::{Collecting, Results, collect};
pub(super) use desk::{Desk, DeskLane, DeskSettings, Gate, Place, Probe};
pub(super) use slot::{Cancel, Hand, Slot, SlotId};
pub use steps::BatchServer;
pub(super) use steps::{Counter, Did, Seen, Stepped, Trace, Trouble, hand};

use crate::domain::FailureClass;

/// Returns what is said of a request for which its batch brought no line, `None` where that is not why it failed.
pub(super) fn words_without_line(class: FailureClass) -> Option<&'static str> {
    match class {
        FailureClass::BatchExpired => Some("the batch expired before this request was done"),
        FailureClass::BatchCancelled => {
            Some("the batch was cancelled before this request was done")
        }
        FailureClass::BatchFailed => Some("the batch failed as a whole"),
        FailureClass::MissingFromBatch => Some("the batch ended with no line for this request"),
        FailureClass::RateLimited
        | FailureClass::Overloaded
        | FailureClass::ServerError
        | FailureClass::Timeout
        | FailureClass::Connection
        | FailureClass::Unreachable
        | FailureClass::QuotaExhausted
        | FailureClass::Unauthorized
        | FailureClass::Forbidden
        | FailureClass::ModelNotFound
        | FailureClass::EndpointNotFound
        | FailureClass::InvalidRequest
        | FailureClass::ContextTooLong
        | FailureClass::RequestTooLarge
        | FailureClass::ContentFiltered
        | FailureClass::Refused
        | FailureClass::SchemaUnsupported
        | FailureClass::InvalidAnswer
        | FailureClass::MalformedReply
        | FailureClass::RenderFailed => None,
    }
}
