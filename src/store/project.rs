//! The project itself and its runs: what it was made with, who ran when and how it ended.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};
use crate::domain::{PromptSpec, RunId, UnixMs};
use crate::machine::request::{InDoubtPolicy, Policy};

/// What `init` fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectFacts {
    /// Makes this project's ids unique at a provider.
    pub token: String,
    /// The base URL of the server, where it is not the provider's own.
    pub base_url: Option<String>,
    /// How many attempts a request may use.
    pub max_attempts: u32,
}

impl ProjectFacts {
    /// Returns the policy under which a prompt's requests are due.
    pub fn policy(&self, spec: &PromptSpec, in_doubt: InDoubtPolicy) -> Policy {
        Policy {
            max_attempts: self.max_attempts,
            max_tokens_limit: spec.max_tokens_limit,
            in_doubt,
        }
    }
}

/// What a run starts with.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// When it started.
    pub started_at: UnixMs,
    /// Its settings, as one JSON object. No key, ever.
    pub settings_json: String,
    /// The process that runs it.
    pub process_id: u32,
    /// The machine it runs on.
    pub host: String,
}

/// A run on record.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// When it started.
    pub started_at: UnixMs,
    /// When and how it ended; `None` while it is on, or if it never came to its end.
    pub ended: Option<(UnixMs, String)>,
    /// What stopped it, where something did.
    pub error: Option<String>,
    /// The process that ran it.
    pub process_id: i64,
    /// The machine it ran on.
    pub host: String,
    /// Whether it was there to cancel batches, and sent nothing.
    pub is_cancel: bool,
}

impl Store {
    /// Returns what `init` fixed.
    pub fn project(&self) -> Result<ProjectFacts, StoreError> {
        self.conn
            .prepare_cached("SELECT token, base_url, max_attempts FROM project WHERE id = 1")
            .and_then(|mut query| {
                query.query_row([], |row| {
                    Ok(ProjectFacts {
                        token: row.get("token")?,
                        base_url: row.get("base_url")?,
                        max_attempts: row.get("max_attempts")?,
                    })
                })
            })
            .map_err(|error| self.named(error))
    }

    /// Records that a run has started.
    pub fn start_run(&mut self, facts: &RunFacts) -> Result<RunId, StoreError> {
        let tx = self.begin()?;
        let id = insert_run(&tx, facts).and_then(|id| tx.commit().map(|()| id));
        id.map_err(|error| self.named(error))
    }

    /// Records how a run ended.
    pub fn end_run(
        &mut self,
        run: RunId,
        at: UnixMs,
        ended: &str,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let tx = self.begin()?;
        let done = tx
            .execute(
                "UPDATE run SET ended_at_ms = ?2, ended = ?3, error = ?4
                 WHERE id = ?1 AND ended_at_ms IS NULL",
                params![run.0, at.0, ended, error],
            )
            .and_then(|_| tx.commit());
        done.map_err(|error| self.named(error))
    }

    /// Returns the newest run.
    pub fn last_run(&self) -> Result<Option<RunRecord>, StoreError> {
        self.conn
            .prepare_cached(
                "SELECT id, started_at_ms, ended_at_ms, ended, error, process_id, host,
                        json_extract(settings, '$.cancel') IS NOT NULL AS is_cancel
                 FROM run ORDER BY id DESC LIMIT 1",
            )
            .and_then(|mut query| query.query_row([], run_record).optional())
            .map_err(|error| self.named(error))
    }
}

fn insert_run(conn: &rusqlite::Connection, facts: &RunFacts) -> rusqlite::Result<RunId> {
    // Whoever still stands here without an end is gone: we hold the only lock.
    conn.execute(
        "UPDATE run SET ended_at_ms = ?1, ended = 'crashed' WHERE ended_at_ms IS NULL",
        [facts.started_at.0],
    )?;
    conn.execute(
        "INSERT INTO run (started_at_ms, settings, process_id, host, program_version)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            facts.started_at.0,
            facts.settings_json,
            facts.process_id,
            facts.host,
            env!("CARGO_PKG_VERSION")
        ],
    )?;
    Ok(RunId(conn.last_insert_rowid()))
}

fn run_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<RunRecord> {
    let ended_at: Option<i64> = row.get("ended_at_ms")?;
    let ended: Option<String> = row.get("ended")?;
    Ok(RunRecord {
        id: RunId(row.get("id")?),
        started_at: UnixMs(row.get("started_at_ms")?),
        ended: ended_at.map(UnixMs).zip(ended),
        error: row.get("error")?,
        process_id: row.get("process_id")?,
        host: row.get("host")?,
        is_cancel: row.get("is_cancel")?,
    })
}
