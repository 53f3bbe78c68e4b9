//! The words of OpenAI, and of those who copy its batches, for how far one has come.

use crate::domain::{BatchEnd, RemoteStatus};

/// Returns what a provider's word means, in whatever case. An unknown one has not ended: a batch that
/// is taken to have ended too early loses what it still brings.
pub(super) fn read(word: &str) -> RemoteStatus {
    let word = word.trim().to_ascii_lowercase().replace(['-', ' '], "_");
    match word.as_str() {
        "validating" | "queued" | "pending" | "created" | "submitted" | "scheduled" => {
            RemoteStatus::Validating
        }
        "finalizing" | "finalising" => RemoteStatus::Finalizing,
        "cancelling" | "canceling" | "cancellation_requested" | "cancel_requested" => {
            RemoteStatus::Cancelling
        }
        "completed"
        | "complete"
        | "success"
        | "succeeded"
        | "done"
        | "finished"
        | "ended"
        | "partially_succeeded"
        | "partially_completed" => RemoteStatus::Ended(BatchEnd::Completed),
        "failed" | "failure" | "error" | "errored" | "validation_failed" => {
            RemoteStatus::Ended(BatchEnd::Failed)
        }
        "expired" | "timeout_exceeded" | "timeout" | "timed_out" => {
            RemoteStatus::Ended(BatchEnd::Expired)
        }
        "cancelled" | "canceled" => RemoteStatus::Ended(BatchEnd::Cancelled),
        // `in_progress`, `PROGRESS`, `RUNNING`, and what nobody has heard of yet.
        _ => RemoteStatus::InProgress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_that_was_seen_has_its_status() {
        use RemoteStatus::{Cancelling, Ended, Finalizing, InProgress, Validating};
        let table = [
            // OpenAI
            ("validating", Validating),
            ("in_progress", InProgress),
            ("finalizing", Finalizing),
            ("completed", Ended(BatchEnd::Completed)),
            ("failed", Ended(BatchEnd::Failed)),
            ("expired", Ended(BatchEnd::Expired)),
            ("cancelling", Cancelling),
            ("cancelled", Ended(BatchEnd::Cancelled)),
            // Azure
            ("Validating", Validating),
            // Together, Novita
            ("IN_PROGRESS", InProgress),
            ("PROGRESS", InProgress),
            ("COMPLETED", Ended(BatchEnd::Completed)),
            // Mistral
            ("QUEUED", Validating),
            ("RUNNING", InProgress),
            ("SUCCESS", Ended(BatchEnd::Completed)),
            ("TIMEOUT_EXCEEDED", Ended(BatchEnd::Expired)),
            ("CANCELLATION_REQUESTED", Cancelling),
            ("CANCELLED", Ended(BatchEnd::Cancelled)),
            // others
            (" Canceled ", Ended(BatchEnd::Cancelled)),
            ("In Progress", InProgress),
        ];
        for (word, wanted) in table {
            assert_eq!(read(word), wanted, "{word}");
        }
    }

    #[test]
    fn an_unknown_word_has_not_ended() {
        for word in ["", "hibernating", "completed?", "not_completed", "complétéd"] {
            assert_eq!(read(word), RemoteStatus::InProgress, "{word}");
        }
    }
}
