//! What the file proves about a batch, and what a provider says of one.

use super::AttemptId;

/// The state of a batch, as the record proves it. Moves are in [`crate::machine::batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchStatus {
    /// Requests are promised to it; nothing has been sent.
    Planned,
    /// Its input file is about to be, or has been, sent; no file id is on record.
    Uploading,
    /// Its input file is at the provider.
    Uploaded,
    /// It is about to be, or has been, created; no id is on record.
    Creating,
    /// The provider has it.
    Created,
    /// The provider checks its input.
    Validating,
    /// The provider works on it.
    InProgress,
    /// The provider prepares its results.
    Finalizing,
    /// It was asked to end early, and has not ended yet.
    Cancelling,
    /// It ended; results may be there.
    Completed,
    /// It ended as a whole; results may be there.
    Failed,
    /// Its window closed; results may be there.
    Expired,
    /// It ended early; results may be there.
    Cancelled,
    /// Its results are being read into the record.
    Collecting,
    /// All that it brought is on record, and every request in it has an outcome.
    Collected,
}

impl BatchStatus {
    /// Every status, in the order of a batch's life.
    pub const ALL: [Self; 15] = [
        Self::Planned,
        Self::Uploading,
        Self::Uploaded,
        Self::Creating,
        Self::Created,
        Self::Validating,
        Self::InProgress,
        Self::Finalizing,
        Self::Cancelling,
        Self::Completed,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Collecting,
        Self::Collected,
    ];

    /// Returns the status's word in SQL, JSON and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Uploading => "uploading",
            Self::Uploaded => "uploaded",
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Validating => "validating",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Collecting => "collecting",
            Self::Collected => "collected",
        }
    }

    /// Returns how it has just ended at the provider, if that is what the status says.
    pub fn end(self) -> Option<BatchEnd> {
        match self {
            Self::Completed => Some(BatchEnd::Completed),
            Self::Failed => Some(BatchEnd::Failed),
            Self::Expired => Some(BatchEnd::Expired),
            Self::Cancelled => Some(BatchEnd::Cancelled),
            Self::Planned
            | Self::Uploading
            | Self::Uploaded
            | Self::Creating
            | Self::Created
            | Self::Validating
            | Self::InProgress
            | Self::Finalizing
            | Self::Cancelling
            | Self::Collecting
            | Self::Collected => None,
        }
    }

    /// Returns the status that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl std::fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a provider says of a batch that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoteStatus {
    /// Its input is checked.
    Validating,
    /// It is worked on. Unknown words of other providers read as this: it has not ended.
    InProgress,
    /// Its results are prepared.
    Finalizing,
    /// It is ending early.
    Cancelling,
    /// It ended so.
    Ended(BatchEnd),
}

/// How a batch ended at the provider. Results may be there whichever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchEnd {
    /// Worked through; single requests may have failed.
    Completed,
    /// Refused as a whole.
    Failed,
    /// The window closed first.
    Expired,
    /// Ended early.
    Cancelled,
}

impl BatchEnd {
    /// Every end.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Failed, Self::Expired, Self::Cancelled];

    /// Returns its word in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the end that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == word)
    }
}

/// How many requests of a batch are done, as the provider counts; never trusted, only shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BatchCounts {
    /// All requests.
    pub total: u64,
    /// Those with a good reply.
    pub completed: u64,
    /// Those without.
    pub failed: u64,
}

/// Returns the `custom_id` of an attempt in the batch with this token: the same for nothing else.
pub fn custom_id(token: &str, attempt: AttemptId) -> String {
    format!("{token}-{attempt}")
}

#[cfg(test)]
mod tests {
    use super::BatchStatus;

    #[test]
    fn every_status_has_one_word() {
        for status in BatchStatus::ALL {
            assert_eq!(BatchStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(BatchStatus::parse("unheard_of"), None);
    }
}
