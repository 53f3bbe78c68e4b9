//! Batches, what they were seen in, and the lines that settled nothing.

use super::{PackedEvidence, Taken, all, columns};
use crate::store::Store;

/// A batch on record.
#[derive(Clone, Debug, Default)]
pub struct BatchEvidence {
    /// Its id.
    pub id: i64,
    /// The run that planned it.
    pub run_id: i64,
    /// Its model.
    pub model: String,
    /// Its endpoint.
    pub endpoint: String,
    /// Its token.
    pub token: String,
    /// Its status.
    pub status: String,
    /// How many requests it has.
    pub requests: i64,
    /// The size of its input file.
    pub input_bytes: i64,
    /// The tokens that they were guessed to have.
    pub estimated_tokens: i64,
    /// Of its input file at the provider.
    pub input_file_id: Option<String>,
    /// Its id at the provider.
    pub provider_id: Option<String>,
    /// Of the good results.
    pub output_file_id: Option<String>,
    /// Of the failed ones.
    pub error_file_id: Option<String>,
    /// When it was planned.
    pub planned_at_ms: i64,
    /// When its window closes.
    pub expires_at_ms: Option<i64>,
    /// When it was collected.
    pub collected_at_ms: Option<i64>,
    /// How it ended.
    pub ended: Option<String>,
    /// When the provider's id was put on record.
    pub created_at_ms: Option<i64>,
    /// When it was last looked at.
    pub seen_at_ms: Option<i64>,
    /// The provider's count of good ones.
    pub completed_requests: Option<i64>,
    /// The provider's count of failed ones.
    pub failed_requests: Option<i64>,
}

/// A status that a batch was seen in.
#[derive(Clone, Debug, Default)]
pub struct StatusEvidence {
    /// Its id.
    pub id: i64,
    /// Its batch.
    pub batch_id: i64,
    /// When.
    pub at_ms: i64,
    /// The status.
    pub status: String,
    /// What the provider said.
    pub reply: Option<Vec<u8>>,
}

/// A line that settled nothing.
#[derive(Clone, Debug, Default)]
pub struct StrayEvidence {
    /// Its id.
    pub id: i64,
    /// Its batch.
    pub batch_id: i64,
    /// Its file.
    pub file: String,
    /// Where in it.
    pub number: i64,
    /// Why it is one.
    pub why: String,
    /// What it says.
    pub reply: PackedEvidence,
    /// When it was found.
    pub found_at_ms: i64,
    /// Whether an attempt has the same place.
    pub is_taken: bool,
}

columns!(StrayColumns {
    id,
    batch_id,
    file,
    number,
    why,
    reply,
    reply_bytes,
    found_at_ms,
    is_taken
});

impl Store {
    /// Returns all batches.
    pub fn batch_evidence(&self) -> Vec<Taken<BatchEvidence>> {
        all(self, "SELECT batch.id AS id, batch.* FROM batch ORDER BY batch.id", |row| {
            Ok(BatchEvidence {
                id: row.get("id")?,
                run_id: row.get("run_id")?,
                model: row.get("model")?,
                endpoint: row.get("endpoint")?,
                token: row.get("token")?,
                status: row.get("status")?,
                requests: row.get("requests")?,
                input_bytes: row.get("input_bytes")?,
                estimated_tokens: row.get("estimated_tokens")?,
                input_file_id: row.get("input_file_id")?,
                provider_id: row.get("provider_id")?,
                output_file_id: row.get("output_file_id")?,
                error_file_id: row.get("error_file_id")?,
                planned_at_ms: row.get("planned_at_ms")?,
                expires_at_ms: row.get("expires_at_ms")?,
                collected_at_ms: row.get("collected_at_ms")?,
                ended: row.get("ended")?,
                created_at_ms: row.get("created_at_ms")?,
                seen_at_ms: row.get("seen_at_ms")?,
                completed_requests: row.get("completed_requests")?,
                failed_requests: row.get("failed_requests")?,
            })
        })
    }

    /// Returns all statuses that batches were seen in, oldest first.
    pub fn status_evidence(&self) -> Vec<Taken<StatusEvidence>> {
        let sql = "SELECT id, batch_id, at_ms, status, reply FROM batch_status ORDER BY id";
        all(self, sql, |row| {
            Ok(StatusEvidence {
                id: row.get("id")?,
                batch_id: row.get("batch_id")?,
                at_ms: row.get("at_ms")?,
                status: row.get("status")?,
                reply: row.get("reply")?,
            })
        })
    }

    /// Returns places in result files that more than one attempt has, at most a hundred: batch, file, line.
    pub fn doubled_places(&self) -> Vec<Taken<(i64, String, i64)>> {
        let sql = "SELECT batch_id, result_file, result_line FROM attempt
                   WHERE batch_id IS NOT NULL AND result_line IS NOT NULL
                   GROUP BY batch_id, result_file, result_line HAVING count(*) > 1 LIMIT 100";
        all(self, sql, |row| {
            Ok((row.get("batch_id")?, row.get("result_file")?, row.get("result_line")?))
        })
    }

    /// Hands over every line that settled nothing.
    pub fn each_stray(&self, take: &mut dyn FnMut(Taken<StrayEvidence>)) {
        let read = self
            .conn
            .prepare_cached(
                "SELECT id, batch_id, file, number, why, reply, reply_bytes, found_at_ms,
                        EXISTS (SELECT 1 FROM attempt WHERE attempt.batch_id = stray_line.batch_id
                                AND result_file = file AND result_line = stray_line.number) AS is_taken
                 FROM stray_line ORDER BY id",
            )
            .and_then(|mut query| {
                let columns = StrayColumns::of(&query)?;
                let mut rows = query.query([])?;
                while let Some(row) = rows.next()? {
                    take(match columns.read(row) {
                        Ok(stray) => Taken::Read(stray),
                        Err(error) => Taken::Unreadable { id: row.get(columns.id).ok(), why: error.to_string() },
                    });
                }
                Ok(())
            });
        if let Err(error) = read {
            take(Taken::Unreadable { id: None, why: error.to_string() });
        }
    }

    /// Says whether a batch has an attempt with this id.
    pub fn is_in_batch(&self, (batch, attempt): (i64, i64)) -> bool {
        self.conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM attempt WHERE id = ?1 AND batch_id = ?2) AS found",
            )
            .and_then(|mut query| query.query_row([attempt, batch], |row| row.get("found")))
            .unwrap_or(false)
    }
}

impl StrayColumns {
    fn read(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<StrayEvidence> {
        Ok(StrayEvidence {
            id: row.get(self.id)?,
            batch_id: row.get(self.batch_id)?,
            file: row.get(self.file)?,
            number: row.get(self.number)?,
            why: row.get(self.why)?,
            reply: PackedEvidence {
                bytes: row.get(self.reply)?,
                dictionary: None,
                plain_bytes: row.get(self.reply_bytes)?,
            },
            found_at_ms: row.get(self.found_at_ms)?,
            is_taken: row.get(self.is_taken)?,
        })
    }
}
