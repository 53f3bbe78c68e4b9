//! Prompts and their versions. A version never changes; an edit is the next one.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};
use crate::domain::{PromptId, PromptSpec, UnixMs};

/// A prompt version on record.
#[derive(Clone, Debug)]
pub struct PromptRecord {
    /// Its id.
    pub id: PromptId,
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// The recipe.
    pub spec: PromptSpec,
    /// When it came.
    pub created_at: UnixMs,
    /// Whether it is the version that `run` works with.
    pub is_live: bool,
    /// Whether its server was found to take no JSON Schema, so that it is asked in words.
    pub asks_in_words: bool,
    /// How many requests were made with it.
    pub requests: u64,
}

impl Store {
    /// Adds a prompt, or the next version of the one with this name. Returns it and whether it is new:
    /// what is there already, word for word, is not added again.
    pub fn add_prompt(
        &mut self,
        name: &str,
        spec: &PromptSpec,
        now: UnixMs,
    ) -> Result<(PromptRecord, bool), StoreError> {
        let live = self.prompts()?.into_iter().find(|prompt| prompt.is_live && prompt.name == name);
        if let Some(same) = live.filter(|prompt| prompt.spec == *spec) {
            return Ok((same, false));
        }
        let spec_json = serde_json::to_string(spec)
            .map_err(|error| StoreError::Contradiction(error.to_string()))?;
        let tx = self.begin()?;
        let id = insert(&tx, name, spec, &spec_json, now).and_then(|id| tx.commit().map(|()| id));
        let id = id.map_err(|error| self.named(error))?;
        let added = self.prompts()?.into_iter().find(|prompt| prompt.id == id);
        added.map(|prompt| (prompt, true)).ok_or_else(|| {
            StoreError::Contradiction(format!("prompt {id} was added and is not there"))
        })
    }

    /// Returns every version of every prompt, in the order in which they came.
    pub fn prompts(&self) -> Result<Vec<PromptRecord>, StoreError> {
        let rows = self
            .conn
            .prepare_cached(
                "SELECT id, name, version, spec, created_at_ms, retired_at_ms IS NULL AS is_live,
                        in_words_from_ms IS NOT NULL AS asks_in_words,
                        (SELECT count(*) FROM request WHERE request.prompt_id = prompt.id) AS requests
                 FROM prompt ORDER BY id",
            )
            .and_then(|mut query| query.query_map([], record)?.collect::<Result<Vec<_>, _>>())
            .map_err(|error| self.named(error))?;
        rows.into_iter()
            .map(|record| {
                record.map_err(|(name, error)| {
                    StoreError::Contradiction(format!("prompt {name} cannot be read: {error}"))
                })
            })
            .collect()
    }

    /// Returns the versions that `run` works with: the newest of each name.
    pub fn live_prompts(&self) -> Result<Vec<PromptRecord>, StoreError> {
        Ok(self.prompts()?.into_iter().filter(|prompt| prompt.is_live).collect())
    }
}

/// Reads a prompt; the inner error is of its own text.
fn record(
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<Result<PromptRecord, (String, serde_json::Error)>> {
    let (name, spec): (String, String) = (row.get("name")?, row.get("spec")?);
    let spec: PromptSpec = match serde_json::from_str(&spec) {
        Ok(spec) => spec,
        Err(error) => return Ok(Err((name, error))),
    };
    Ok(Ok(PromptRecord {
        id: PromptId(row.get("id")?),
        name,
        version: row.get("version")?,
        spec,
        created_at: UnixMs(row.get("created_at_ms")?),
        is_live: row.get("is_live")?,
        asks_in_words: row.get("asks_in_words")?,
        requests: row.get("requests")?,
    }))
}

fn insert(
    conn: &rusqlite::Connection,
    name: &str,
    spec: &PromptSpec,
    spec_json: &str,
    now: UnixMs,
) -> rusqlite::Result<PromptId> {
    let last: Option<u32> = conn
        .query_row("SELECT max(version) AS last FROM prompt WHERE name = ?1", [name], |row| {
            row.get("last")
        })
        .optional()?
        .flatten();
    conn.execute(
        "UPDATE prompt SET retired_at_ms = ?2 WHERE name = ?1 AND retired_at_ms IS NULL",
        params![name, now.0],
    )?;
    conn.execute(
        "INSERT INTO prompt (name, version, model, endpoint, source, spec, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            name,
            last.unwrap_or(0) + 1,
            spec.model.to_string(),
            spec.endpoint.as_str(),
            spec.source,
            spec_json,
            now.0
        ],
    )?;
    Ok(PromptId(conn.last_insert_rowid()))
}
