//! The life of a batch: every legal move, on one screen.
//!
//! ```text
//! planned ─▶ uploading ─▶ uploaded(file id) ─▶ creating(token) ─▶ created(provider id)
//!    │          │ ▲ │          │                 │ ▲ │                   │
//!    │          └─┘ │          │                 └─┘ │                   ▼ whatever the provider says:
//!    │    proved absent        │           proved absent        validating ▸ in_progress ▸ finalizing ▸ cancelling
//!    │                         │                     │                   │
//!    └── dropped / refused ────┴───▶ failed | cancelled ◀── refused ──┐  ▼
//!                                        │          completed | failed | expired | cancelled
//!                                        ▼                            │
//!                                   collecting ◀──────────────────────┘ ─▶ collected
//! ```
//!
//! Each arrow is committed before the next step is taken, so a crash leaves one of these states and
//! [`step`] says how to go on from it. [`next`] is total and pure and has no catch-all arm.

use crate::domain::{BatchEnd, BatchStatus, RemoteStatus};

/// What happened to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchMove {
    /// Its input file is about to be sent.
    Upload,
    /// The provider has its input file.
    Uploaded,
    /// It is about to be created.
    Create,
    /// The provider has it.
    Created,
    /// A look at the provider found it so.
    Seen(RemoteStatus),
    /// The provider will not have it: no job was made.
    Refused,
    /// It is given up before any job was made, or the provider has no trace of it any more.
    Dropped,
    /// Its results are about to be read.
    Collect,
    /// Every line is on record, and every request has an outcome.
    Collected,
}

/// A move that the status does not allow: a mistake of ours, never of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch that is {status} cannot take the move {event:?}")]
pub struct IllegalBatchMove {
    /// The status it was in.
    pub status: BatchStatus,
    /// What was asked of it.
    pub event: BatchMove,
}

/// Returns the status after `event`.
pub fn next(status: BatchStatus, event: BatchMove) -> Result<BatchStatus, IllegalBatchMove> {
    use BatchMove as M;
    use BatchStatus as S;

    let illegal = Err(IllegalBatchMove { status, event });
    match (status, event) {
        (S::Planned, M::Upload) => Ok(S::Uploading),
        (S::Planned, M::Dropped) => Ok(S::Cancelled),
        (S::Planned, M::Uploaded | M::Create | M::Created | M::Seen(_) | M::Refused) => illegal,

        // Proved absent at the provider, it is sent again: the same status, committed anew.
        (S::Uploading, M::Upload) => Ok(S::Uploading),
        (S::Uploading, M::Uploaded) => Ok(S::Uploaded),
        (S::Uploading, M::Refused) => Ok(S::Failed),
        (S::Uploading, M::Dropped) => Ok(S::Cancelled),
        (S::Uploading, M::Create | M::Created | M::Seen(_)) => illegal,

        (S::Uploaded, M::Create) => Ok(S::Creating),
        (S::Uploaded, M::Dropped) => Ok(S::Cancelled),
        (S::Uploaded, M::Upload | M::Uploaded | M::Created | M::Seen(_) | M::Refused) => illegal,

        (S::Creating, M::Create) => Ok(S::Creating),
        (S::Creating, M::Created) => Ok(S::Created),
        (S::Creating, M::Refused) => Ok(S::Failed),
        // Only once its absence is proved, or a person says so.
        (S::Creating, M::Dropped) => Ok(S::Cancelled),
        (S::Creating, M::Upload | M::Uploaded | M::Seen(_)) => illegal,

        // Statuses of a provider are taken as they come: some are skipped, some come back.
        (
            S::Created | S::Validating | S::InProgress | S::Finalizing | S::Cancelling,
            M::Seen(remote),
        ) => Ok(seen(remote)),
        (
            S::Created | S::Validating | S::InProgress | S::Finalizing | S::Cancelling,
            M::Dropped,
        ) => Ok(S::Cancelled),
        (
            S::Created | S::Validating | S::InProgress | S::Finalizing | S::Cancelling,
            M::Upload | M::Uploaded | M::Create | M::Created | M::Refused,
        ) => illegal,

        (S::Completed | S::Failed | S::Expired | S::Cancelled, M::Collect) => Ok(S::Collecting),
        (
            S::Completed | S::Failed | S::Expired | S::Cancelled,
            M::Upload | M::Uploaded | M::Create | M::Created | M::Seen(_) | M::Refused | M::Dropped,
        ) => illegal,

        // A crash in the middle: it is read again from the start, and what is on record stays.
        (S::Collecting, M::Collect) => Ok(S::Collecting),
        (S::Collecting, M::Collected) => Ok(S::Collected),
        (
            S::Collecting,
            M::Upload | M::Uploaded | M::Create | M::Created | M::Seen(_) | M::Refused | M::Dropped,
        ) => illegal,

        (
            S::Collected,
            M::Upload
            | M::Uploaded
            | M::Create
            | M::Created
            | M::Seen(_)
            | M::Refused
            | M::Dropped
            | M::Collect
            | M::Collected,
        )
        | (
            S::Planned
            | S::Uploading
            | S::Uploaded
            | S::Creating
            | S::Created
            | S::Validating
            | S::InProgress
            | S::Finalizing
            | S::Cancelling,
            M::Collect | M::Collected,
        )
        | (S::Completed | S::Failed | S::Expired | S::Cancelled, M::Collected) => illegal,
    }
}

fn seen(remote: RemoteStatus) -> BatchStatus {
    match remote {
        RemoteStatus::Validating => BatchStatus::Validating,
        RemoteStatus::InProgress => BatchStatus::InProgress,
        RemoteStatus::Finalizing => BatchStatus::Finalizing,
        RemoteStatus::Cancelling => BatchStatus::Cancelling,
        RemoteStatus::Ended(BatchEnd::Completed) => BatchStatus::Completed,
        RemoteStatus::Ended(BatchEnd::Failed) => BatchStatus::Failed,
        RemoteStatus::Ended(BatchEnd::Expired) => BatchStatus::Expired,
        RemoteStatus::Ended(BatchEnd::Cancelled) => BatchStatus::Cancelled,
    }
}

/// How a batch goes on from where the file says it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the input file.
    Upload,
    /// Look among the provider's files for one that was sent before.
    FindFile,
    /// Create the job.
    Create,
    /// Look among the provider's batches for one that was created before.
    FindBatch,
    /// Look how it is doing.
    Look,
    /// Read its results.
    Collect,
    /// Nothing: it is done.
    Rest,
}

/// Returns the next step of a batch that nobody has a hand on.
pub fn step(status: BatchStatus) -> Step {
    match status {
        BatchStatus::Planned => Step::Upload,
        BatchStatus::Uploading => Step::FindFile,
        BatchStatus::Uploaded => Step::Create,
        BatchStatus::Creating => Step::FindBatch,
        BatchStatus::Created
        | BatchStatus::Validating
        | BatchStatus::InProgress
        | BatchStatus::Finalizing
        | BatchStatus::Cancelling => Step::Look,
        BatchStatus::Completed
        | BatchStatus::Failed
        | BatchStatus::Expired
        | BatchStatus::Cancelled
        | BatchStatus::Collecting => Step::Collect,
        BatchStatus::Collected => Step::Rest,
    }
}

/// Says whether a provider has, or may have, this batch as a job that costs money.
pub fn may_be_billed(status: BatchStatus) -> bool {
    match step(status) {
        Step::FindBatch | Step::Look => true,
        Step::Upload | Step::FindFile | Step::Create | Step::Collect | Step::Rest => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moves() -> Vec<BatchMove> {
        use BatchEnd as E;
        use RemoteStatus as R;
        let remote = [R::Validating, R::InProgress, R::Finalizing, R::Cancelling];
        let ended = [E::Completed, E::Failed, E::Expired, E::Cancelled].map(R::Ended);
        let seen = remote.into_iter().chain(ended).map(BatchMove::Seen);
        let ours = [
            BatchMove::Upload,
            BatchMove::Uploaded,
            BatchMove::Create,
            BatchMove::Created,
            BatchMove::Refused,
            BatchMove::Dropped,
            BatchMove::Collect,
            BatchMove::Collected,
        ];
        ours.into_iter().chain(seen).collect()
    }

    /// The arrows, written a second time: from, to.
    const ARROWS: &[(&str, &str)] = &[
        ("planned", "uploading cancelled"),
        ("uploading", "uploading uploaded failed cancelled"),
        ("uploaded", "creating cancelled"),
        ("creating", "creating created failed cancelled"),
        ("created", "THERE"),
        ("validating", "THERE"),
        ("in_progress", "THERE"),
        ("finalizing", "THERE"),
        ("cancelling", "THERE"),
        ("completed", "collecting"),
        ("failed", "collecting"),
        ("expired", "collecting"),
        ("cancelled", "collecting"),
        ("collecting", "collecting collected"),
        ("collected", ""),
    ];
    const THERE: &str =
        "validating in_progress finalizing cancelling completed failed expired cancelled";

    #[test]
    fn every_arrow_is_drawn_and_no_other() {
        for status in BatchStatus::ALL {
            let (_, to) = ARROWS.iter().find(|(from, _)| *from == status.as_str()).unwrap();
            let to = if *to == "THERE" { THERE } else { to };
            let wanted: std::collections::BTreeSet<&str> = to.split_whitespace().collect();
            let reached: std::collections::BTreeSet<&str> = moves()
                .into_iter()
                .filter_map(|event| next(status, event).ok())
                .map(BatchStatus::as_str)
                .collect();
            assert_eq!(reached, wanted, "from {status}");
        }
    }

    proptest! {
        /// Whatever happens in whatever order, no job is created unless its absence was committed to
        /// first, and what has ended is read before it is done.
        #[test]
        fn a_job_is_created_once_and_read_before_it_is_done(
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let moves = moves();
            let (mut status, mut was_creating, mut was_collecting) = (BatchStatus::Planned, false, false);
            for pick in picks {
                let event = moves[pick.index(moves.len())];
                let before = status;
                let Ok(after) = next(status, event) else { continue };
                status = after;
                was_creating |= status == BatchStatus::Creating;
                was_collecting |= status == BatchStatus::Collecting;
                prop_assert!(status != BatchStatus::Created || before == BatchStatus::Creating);
                prop_assert!(status != BatchStatus::Created || was_creating);
                prop_assert!(status != BatchStatus::Collected || was_collecting);
            }
        }
    }

    #[test]
    fn every_step_taken_from_any_status_leads_to_rest() {
        for start in BatchStatus::ALL {
            let mut status = start;
            for _ in 0..10 {
                let event = match step(status) {
                    Step::Upload => BatchMove::Upload,
                    Step::FindFile => BatchMove::Uploaded,
                    Step::Create => BatchMove::Create,
                    Step::FindBatch => BatchMove::Created,
                    Step::Look => BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Completed)),
                    Step::Collect if status == BatchStatus::Collecting => BatchMove::Collected,
                    Step::Collect => BatchMove::Collect,
                    Step::Rest => break,
                };
                status = next(status, event).unwrap();
            }
            assert_eq!(status, BatchStatus::Collected, "from {start}");
        }
    }
}
