//! What is said of a batch, wherever one is shown: how it stands, how old it is, when its window closes.

use super::text::duration;
use crate::domain::{BatchEnd, BatchStatus, UnixMs};
use crate::machine::batch::{Step, step};
use crate::store::BatchRecord;

/// Returns how a batch stands; of one that is done with, how it ended.
pub(crate) fn standing(batch: &BatchRecord) -> String {
    match batch.status {
        BatchStatus::Planned
        | BatchStatus::Uploading
        | BatchStatus::Uploaded
        | BatchStatus::Creating
        | BatchStatus::Created
        | BatchStatus::Validating
        | BatchStatus::InProgress
        | BatchStatus::Finalizing
        | BatchStatus::Cancelling => batch.status.as_str().replace('_', " "),
        BatchStatus::Completed
        | BatchStatus::Failed
        | BatchStatus::Expired
        | BatchStatus::Cancelled => format!("{}, not collected yet", batch.status),
        BatchStatus::Collecting => match batch.ended {
            Some(end) => format!("{}, being collected", ended(end)),
            None => "being collected".to_owned(),
        },
        BatchStatus::Collected => batch.ended.map_or("collected", ended).to_owned(),
    }
}

/// Returns the word for how a batch ended at the provider.
pub(crate) fn ended(end: BatchEnd) -> &'static str {
    match end {
        BatchEnd::Completed => "completed",
        BatchEnd::Failed => "failed",
        BatchEnd::Expired => "expired",
        BatchEnd::Cancelled => "cancelled",
    }
}

/// Says whether a batch is not done with.
pub(crate) fn is_open(batch: &BatchRecord) -> bool {
    batch.status != BatchStatus::Collected
}

/// Returns how long a batch took, or how old it is, and of one that goes on when its window closes.
pub(crate) fn times(batch: &BatchRecord, now: UnixMs) -> String {
    if let Some(at) = batch.collected_at {
        return format!("took {}", duration(at.since(batch.planned_at)));
    }
    let age = format!("{} old", duration(now.since(batch.planned_at)));
    let window = batch.expires_at.filter(|_| step(batch.status) == Step::Look);
    match window {
        None => age,
        Some(at) if at > now => format!("{age}, expires in {}", duration(at.since(now))),
        Some(at) => format!("{age}, window closed {} ago", duration(now.since(at))),
    }
}
