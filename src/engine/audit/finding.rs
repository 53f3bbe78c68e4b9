//! What does not hold, in words, by the check that found it.

use std::collections::BTreeMap;

use serde::Serialize;

/// Which check found something. The words are stable: scripts may match them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// SQLite cannot read the file, or finds it unsound.
    File,
    /// A table, index or view is missing or is not ours.
    Schema,
    /// A number names what is not there, or a number is missing where none is ever deleted.
    Link,
    /// The migrations on record are not those that make this format.
    Migration,
    /// The project's own line.
    Project,
    /// A source's facts do not fit its rows.
    Source,
    /// A row's key is not its cells', or its versions or position do not fit.
    Row,
    /// A prompt's recipe is not the one of its text.
    Prompt,
    /// Runs do not follow each other, or hold attempts that are not theirs.
    Run,
    /// A kept body cannot be unpacked, or has another size.
    Body,
    /// A body's bytes are not the ones that were fingerprinted.
    Fingerprint,
    /// A row and its prompt no longer give the bytes on record.
    Rendering,
    /// An attempt contradicts itself, or those beside it.
    Attempt,
    /// A kept reply cannot be unpacked, has another size, or is not this attempt's.
    Reply,
    /// A reply reads otherwise than what is on record of it.
    Reading,
    /// A request's state is not the one that its attempts come to.
    State,
    /// A request's counts and sums are not those of its attempts.
    Sums,
    /// A cost is not the one of its tokens.
    Cost,
    /// A request with an answer was sent again, and nobody is on record to have asked.
    Resent,
    /// A batch does not fit its requests, or what it was seen in.
    Batch,
    /// A line that settled nothing is not what it is said to be.
    Stray,
    /// A time that cannot be.
    Time,
}

impl Check {
    /// Every check, in the order in which they are reported.
    pub const ALL: [Self; 22] = [
        Self::File,
        Self::Schema,
        Self::Link,
        Self::Migration,
        Self::Project,
        Self::Source,
        Self::Row,
        Self::Prompt,
        Self::Run,
        Self::Body,
        Self::Fingerprint,
        Self::Rendering,
        Self::Attempt,
        Self::Reply,
        Self::Reading,
        Self::State,
        Self::Sums,
        Self::Cost,
        Self::Resent,
        Self::Batch,
        Self::Stray,
        Self::Time,
    ];

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Schema => "schema",
            Self::Link => "link",
            Self::Migration => "migration",
            Self::Project => "project",
            Self::Source => "source",
            Self::Row => "row",
            Self::Prompt => "prompt",
            Self::Run => "run",
            Self::Body => "body",
            Self::Fingerprint => "fingerprint",
            Self::Rendering => "rendering",
            Self::Attempt => "attempt",
            Self::Reply => "reply",
            Self::Reading => "reading",
            Self::State => "state",
            Self::Sums => "sums",
            Self::Cost => "cost",
            Self::Resent => "resent",
            Self::Batch => "batch",
            Self::Stray => "stray",
            Self::Time => "time",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A row, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RowName {
    /// Its position in the table, from 1.
    pub position: Option<i64>,
    /// Its key.
    pub key: Option<String>,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// The request that it is about.
    pub request: Option<i64>,
    /// The attempt.
    pub attempt: Option<i64>,
    /// The batch.
    pub batch: Option<i64>,
    /// The row.
    pub row: Option<RowName>,
    /// The prompt, `NAME@VERSION`.
    pub prompt: Option<String>,
    /// What it is. Holds no part of a cell, a body or a reply.
    pub message: String,
}

impl Finding {
    /// Makes one that is about nothing in particular.
    pub fn new(check: Check, message: impl Into<String>) -> Self {
        Self {
            check,
            request: None,
            attempt: None,
            batch: None,
            row: None,
            prompt: None,
            message: message.into(),
        }
    }

    /// Names the attempt.
    #[must_use]
    pub fn of_attempt(self, attempt: i64) -> Self {
        Self { attempt: Some(attempt), ..self }
    }

    /// Names the batch.
    #[must_use]
    pub fn of_batch(self, batch: i64) -> Self {
        Self { batch: Some(batch), ..self }
    }
}

/// How many findings of one check are kept; the others are counted.
pub const KEPT: usize = 1000;

/// What was found, bounded, the first ones of each check.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: BTreeMap<Check, Vec<Finding>>,
    counts: BTreeMap<Check, u64>,
}

impl Findings {
    /// Takes one in.
    pub(super) fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.check).or_default() += 1;
        let kept = self.kept.entry(finding.check).or_default();
        kept.push(finding);
        if kept.len() == 2 * KEPT {
            // Threads find in any order; the first by their numbers are kept.
            kept.sort_unstable();
            kept.truncate(KEPT);
        }
    }

    /// Takes in all of another's.
    pub(super) fn merge(&mut self, other: Self) {
        for (check, count) in other.counts {
            *self.counts.entry(check).or_default() += count;
        }
        for (check, findings) in other.kept {
            let kept = self.kept.entry(check).or_default();
            kept.extend(findings);
            kept.sort_unstable();
            kept.truncate(KEPT);
        }
    }

    /// Returns the counts by check, and what is kept in the order of checks and numbers.
    pub(super) fn into_parts(self) -> (Vec<(Check, u64)>, Vec<Finding>) {
        let mut all = Vec::new();
        for mut kept in self.kept.into_values() {
            kept.sort_unstable();
            kept.truncate(KEPT);
            all.extend(kept);
        }
        (self.counts.into_iter().collect(), all)
    }
}
