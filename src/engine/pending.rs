//! What is under way: calls in flight, and orders whose receipts have not come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::batches::SlotId;
use super::followers::Follower;
use super::task::Job;
use super::transport::Room;
use crate::domain::{AttemptId, FailureClass, NanoUsd, Outcome, RequestId, Usage};
use crate::machine::batch::BatchMove;
use crate::store::ResultLine;

/// A call on its way.
pub(super) struct Flight {
    pub(super) job: Box<Job>,
    pub(super) request: RequestId,
    pub(super) attempt: AttemptId,
    pub(super) number: u32,
    pub(super) guessed_tokens: u64,
}

/// A landed call on its way to the disk.
pub(super) struct Settling {
    pub(super) flight: Flight,
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) cost: Option<NanoUsd>,
    pub(super) asked_pause: Option<Duration>,
    pub(super) took: Duration,
    /// Free again with the settlement's receipt.
    #[expect(dead_code, reason = "it is held, and there is nothing to read")]
    pub(super) room: Option<Room>,
}

/// What an order was about, until its receipt comes.
pub(super) enum Pending {
    Promise(Box<Job>),
    Settle(Box<Settling>),
    Share(Follower),
    Change(SlotId, BatchMove),
    Lines {
        slot: SlotId,
        lines: Arc<Vec<ResultLine>>,
        /// Lets the reader go on.
        go: oneshot::Sender<()>,
    },
    Missing {
        slot: SlotId,
        failed: FailureClass,
    },
    QueueLimit,
    NotRendered {
        position: i64,
        task: usize,
        error: String,
    },
    Dictionary {
        task: usize,
        bytes: Bytes,
    },
    AskInWords,
    AskedUpto,
}
