//! One batch in the hands of a run.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::steps::BatchServer;
use crate::domain::{BatchCounts, BatchEnd, BatchId, BatchStatus, FailureClass};
use crate::machine::batch::{Step, step};
use crate::machine::packing::Load;
use crate::store::{BatchRecord, NewBatch};

/// Names a batch within a run, before it has an id on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::engine) struct SlotId(pub(in crate::engine) usize);

/// What is being done for a batch right now.
#[derive(Debug, Default)]
pub(in crate::engine) enum Hand {
    /// Nothing.
    #[default]
    Free,
    /// Its next step is on its way to the disk.
    Ordered,
    /// A call is out.
    Out(Step, AbortHandle),
}

/// Whether a batch is to end early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) enum Cancel {
    /// No.
    #[default]
    No,
    /// Yes, and the provider has not been told.
    Wanted,
    /// The provider has been told.
    Asked,
}

/// A batch in the hands of a run.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(in crate::engine) struct Slot {
    pub(in crate::engine) new: Arc<NewBatch>,
    pub(in crate::engine) server: Arc<BatchServer>,
    pub(in crate::engine) lane: usize,
    /// Known from the first place that is on record.
    pub(in crate::engine) id: Option<BatchId>,
    pub(in crate::engine) status: BatchStatus,
    pub(in crate::engine) ended: Option<BatchEnd>,
    /// Places given, whether they are on record yet or not.
    pub(in crate::engine) load: Load,
    /// Requests on record as in it.
    pub(in crate::engine) requests: u64,
    /// Whether it still takes requests.
    pub(in crate::engine) is_filling: bool,
    /// Places asked for whose promise is not on record yet.
    pub(in crate::engine) asked: u64,
    /// Whether this run planned it.
    pub(in crate::engine) is_ours: bool,
    pub(in crate::engine) hand: Hand,
    pub(in crate::engine) cancel: Cancel,
    /// When its next step may be taken, since the run's start.
    pub(in crate::engine) next_at: Duration,
    /// Looks since its status last changed.
    pub(in crate::engine) looks: u32,
    /// Calls for its present step that failed in a row.
    pub(in crate::engine) failures: u32,
    /// Uploads that broke off.
    pub(in crate::engine) broken_uploads: u32,
    /// Reads of its output that found nothing of it there.
    pub(in crate::engine) foreign_reads: u32,
    /// Since when they have failed.
    pub(in crate::engine) troubled_since: Option<Duration>,
    /// Whether they have failed for so long that this run leaves it to the next one.
    pub(in crate::engine) is_given_up: bool,
    /// Listings in a row in which it did not stand.
    pub(in crate::engine) absences: u32,
    /// Since when the provider does not know it.
    pub(in crate::engine) absent_since: Option<Duration>,
    /// Looks at it as completed, with no results named.
    pub(in crate::engine) empty_looks: u32,
    /// Whether the provider has no trace of it any more, though nobody gave it up.
    pub(in crate::engine) is_lost: bool,
    /// Whether its file was too large, and smaller ones may do.
    pub(in crate::engine) is_too_large: bool,
    /// Since when its results are asked for in vain.
    pub(in crate::engine) in_vain_since: Option<Duration>,
    /// Whether the provider has been heard of it in this run.
    pub(in crate::engine) is_heard: bool,
    /// Whether the provider refused its size in tokens.
    pub(in crate::engine) is_over_queue: bool,
    pub(in crate::engine) input_bytes: u64,
    pub(in crate::engine) input_file_id: Option<String>,
    pub(in crate::engine) provider_id: Option<String>,
    pub(in crate::engine) output_file_id: Option<String>,
    pub(in crate::engine) error_file_id: Option<String>,
    pub(in crate::engine) counts: Option<BatchCounts>,
    /// Why it was refused, failed or dropped.
    pub(in crate::engine) error: Option<String>,
    /// Whether any of its lines brought text, used up a try, or taught something.
    pub(in crate::engine) is_of_use: bool,
    /// Requests that it answered in this run.
    pub(in crate::engine) answered: u64,
    /// Requests of it that are due again.
    pub(in crate::engine) due_again: u64,
    /// A failure among its lines that every other request would meet as well.
    pub(in crate::engine) stops: Option<(FailureClass, String)>,
}

impl Slot {
    /// Makes the slot of a batch that takes its first request.
    pub(in crate::engine) fn open(new: NewBatch, server: Arc<BatchServer>, lane: usize) -> Self {
        Self {
            new: Arc::new(new),
            server,
            lane,
            id: None,
            status: BatchStatus::Planned,
            ended: None,
            load: Load::default(),
            requests: 0,
            is_filling: true,
            asked: 0,
            is_ours: true,
            hand: Hand::Free,
            cancel: Cancel::No,
            next_at: Duration::ZERO,
            looks: 0,
            failures: 0,
            broken_uploads: 0,
            foreign_reads: 0,
            troubled_since: None,
            is_given_up: false,
            absences: 0,
            in_vain_since: None,
            absent_since: None,
            empty_looks: 0,
            is_lost: false,
            is_too_large: false,
            is_heard: false,
            is_over_queue: false,
            input_bytes: 0,
            input_file_id: None,
            provider_id: None,
            output_file_id: None,
            error_file_id: None,
            counts: None,
            error: None,
            is_of_use: false,
            answered: 0,
            due_again: 0,
            stops: None,
        }
    }

    /// Makes the slot of a batch that an earlier run left.
    pub(in crate::engine) fn adopt(
        record: BatchRecord,
        server: Arc<BatchServer>,
        lane: usize,
    ) -> Self {
        Self {
            id: Some(record.id),
            status: record.status,
            ended: record.ended,
            load: Load {
                requests: record.requests,
                bytes: record.input_bytes,
                tokens: record.tokens,
            },
            requests: record.requests,
            is_filling: false,
            is_ours: false,
            cancel: match record.status {
                BatchStatus::Cancelling => Cancel::Asked,
                _ => Cancel::No,
            },
            input_bytes: record.input_bytes,
            input_file_id: record.input_file_id,
            provider_id: record.provider_id,
            output_file_id: record.output_file_id,
            error_file_id: record.error_file_id,
            counts: record.counts,
            error: record.error,
            ..Self::open(record.new, server, lane)
        }
    }

    /// Says whether nothing more is to be done for it.
    pub(in crate::engine) fn is_done(&self) -> bool {
        self.status == BatchStatus::Collected
            || (!self.is_filling && self.asked == 0 && self.requests == 0)
    }

    /// Returns the tokens that it holds in the provider's queue, or is about to.
    pub(in crate::engine) fn enqueued(&self) -> u64 {
        match step(self.status) {
            _ if self.is_done() => 0,
            Step::Upload | Step::FindFile | Step::Create | Step::FindBatch | Step::Look => {
                self.load.tokens
            }
            Step::Collect | Step::Rest => 0,
        }
    }

    /// Says whether its next step may be thought of: all its places are on record and nobody has a hand on it.
    pub(in crate::engine) fn is_ready(&self) -> bool {
        !self.is_filling && self.asked == 0 && !self.is_done() && matches!(self.hand, Hand::Free)
    }

    /// Says whether a run, which waits for batches or does not, may leave it as it is.
    pub(in crate::engine) fn may_be_left(&self, waits: bool) -> bool {
        const PATIENCE: u32 = 3;
        let is_waiting =
            step(self.status) == Step::Look && self.is_heard && self.cancel != Cancel::Wanted;
        let may_be = is_waiting || self.failures >= PATIENCE;
        !self.is_filling && self.asked == 0 && (self.is_given_up || (!waits && may_be))
    }
}
