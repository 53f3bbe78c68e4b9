//! What is written down before anything is sent, and what comes of it.
//!
//! Words only: [`super::ledger`] puts them on record.

use std::sync::Arc;

use super::batches::NewBatch;
use super::codec::Packed;
use crate::domain::{
    AttemptId, BatchId, Fingerprint, NanoUsd, PromptId, RequestId, Route, RowId, RunId, State,
    UnixMs,
};

/// A body as it is put on record.
#[derive(Clone, Debug)]
pub struct NewBody {
    /// The fingerprint of its plain bytes.
    pub fingerprint: Fingerprint,
    /// Its bytes.
    pub packed: Packed,
}

/// Which request is promised.
#[derive(Clone, Debug)]
pub enum PromiseFor {
    /// One that is made now.
    New {
        /// Its row.
        row: RowId,
        /// Its prompt.
        prompt: PromptId,
        /// Its body.
        body: NewBody,
    },
    /// One that is on record. Its body is given in case it never got one.
    Existing {
        /// Its id.
        request: RequestId,
        /// Its body as first sent.
        body: NewBody,
    },
}

/// By which way an attempt goes.
#[derive(Clone, Debug)]
pub enum Way {
    /// A call of its own.
    Realtime,
    /// A line of a batch's input file.
    Batch(Seat),
}

impl Way {
    pub(super) fn route(&self) -> Route {
        match self {
            Self::Realtime => Route::Realtime,
            Self::Batch(_) => Route::Batch,
        }
    }
}

/// A place in a batch.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Which batch; it is put on record with the first request that gets a place in it.
    pub batch: Arc<NewBatch>,
    /// The bytes of the line, without its `custom_id`.
    pub line_bytes: u64,
    /// The input tokens that it is guessed to have.
    pub tokens: u64,
}

/// An attempt about to be made.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Which request.
    pub request: PromiseFor,
    /// In which run.
    pub run: RunId,
    /// By which way it goes.
    pub way: Way,
    /// The token limit it is sent with.
    pub max_tokens: Option<u32>,
    /// The exact bytes that are sent, where they are not the request's own.
    pub sent_body: Option<Packed>,
    /// Now.
    pub at: UnixMs,
    /// Whether a reply to the same body may be shared.
    pub reuse: bool,
    /// The most that it may cost; `None` where the price is not known.
    pub reserved: Option<NanoUsd>,
}

/// What came of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promised {
    /// It stands: the call may be made.
    Sent {
        /// The request.
        request: RequestId,
        /// The attempt.
        attempt: AttemptId,
        /// The attempt's number, from 1.
        number: u32,
        /// The batch that it has a place in, if that is its way.
        batch: Option<BatchId>,
    },
    /// It has an attempt under way, or an answer: nothing was promised.
    Taken {
        /// The request.
        request: RequestId,
    },
    /// Another request with the same body has a reply, and this one shares it now.
    Shared {
        /// The request.
        request: RequestId,
        /// Its state after sharing.
        state: State,
    },
    /// Another request with the same body is under way: nothing was promised.
    Wait {
        /// The request.
        request: RequestId,
        /// The one to wait for.
        twin: Twin,
    },
}

/// A request with the same body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its id.
    pub request: RequestId,
    /// Its state.
    pub state: State,
}
