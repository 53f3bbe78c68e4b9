//! Evidence of tables that do not grow with the rows: the project, its files, prompts, runs and dictionaries.

use rusqlite::OptionalExtension;

use super::{Taken, all};
use crate::store::{Store, StoreError, migrate};

/// The project on record.
#[derive(Clone, Debug)]
pub struct ProjectEvidence {
    /// What makes its ids unique at a provider.
    pub token: String,
    /// When it was made.
    pub created_at_ms: i64,
    /// The base URL of its server.
    pub base_url: Option<String>,
}

/// A migration on record, and the one that should stand there.
#[derive(Clone, Debug)]
pub struct MigrationEvidence {
    /// Its number on record.
    pub version: Option<i64>,
    /// Its name on record.
    pub name: Option<String>,
    /// Its name in this program.
    pub wanted: &'static str,
    /// When it was applied.
    pub applied_at_ms: Option<i64>,
}

/// A source on record, with what its rows say of it.
#[derive(Clone, Debug)]
pub struct SourceEvidence {
    /// Its id.
    pub id: i64,
    /// Its format's name.
    pub format: String,
    /// Its encoding's name.
    pub encoding: String,
    /// Its size.
    pub bytes: i64,
    /// Its columns, as a JSON list.
    pub columns: String,
    /// The column whose cells are its rows' keys.
    pub key_column: Option<String>,
    /// How many rows the file had.
    pub rows: i64,
    /// When it was added.
    pub added_at_ms: i64,
}

/// A prompt version on record.
#[derive(Clone, Debug)]
pub struct PromptEvidence {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i64,
    /// Its model.
    pub model: String,
    /// Its endpoint.
    pub endpoint: String,
    /// Its text.
    pub source: String,
    /// Its recipe, as JSON.
    pub spec: String,
    /// When it came.
    pub created_at_ms: i64,
    /// Since when there is a newer one.
    pub retired_at_ms: Option<i64>,
    /// Since when the form of its answer is asked for in words.
    pub in_words_from_ms: Option<i64>,
}

/// A run on record.
#[derive(Clone, Debug)]
pub struct RunEvidence {
    /// Its id.
    pub id: i64,
    /// When it started.
    pub started_at_ms: i64,
    /// When it ended.
    pub ended_at_ms: Option<i64>,
    /// How it ended.
    pub ended: Option<String>,
    /// The version of the program.
    pub program_version: String,
    /// What it went by for each prompt, as JSON; `None` where it has not said.
    pub prices: Option<String>,
}

/// A dictionary on record.
#[derive(Clone, Debug)]
pub struct DictionaryEvidence {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub prompt_id: i64,
    /// `body` or `reply`.
    pub kind: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Returns the project's own line, if there is one.
    pub fn project_evidence(&self) -> Result<Option<ProjectEvidence>, StoreError> {
        self.conn
            .prepare_cached("SELECT token, created_at_ms, base_url FROM project WHERE id = 1")
            .and_then(|mut query| {
                query
                    .query_row([], |row| {
                        Ok(ProjectEvidence {
                            token: row.get("token")?,
                            created_at_ms: row.get("created_at_ms")?,
                            base_url: row.get("base_url")?,
                        })
                    })
                    .optional()
            })
            .map_err(|error| self.named(error))
    }

    /// Returns the migrations that should be on record, each with what is.
    pub fn migration_evidence(&self) -> Result<Vec<MigrationEvidence>, StoreError> {
        let format = migrate::format_of(&self.conn).map_err(|error| self.named(error))?;
        let wanted = migrate::names().take(usize::try_from(format).unwrap_or(0)).enumerate();
        let mut found: Vec<MigrationEvidence> = Vec::new();
        for (index, wanted) in wanted {
            let on_record = self
                .conn
                .prepare_cached(
                    "SELECT version, name, applied_at_ms FROM migration WHERE version = ?1",
                )
                .and_then(|mut query| {
                    query
                        .query_row([index as i64 + 1], |row| {
                            Ok(MigrationEvidence {
                                version: row.get("version")?,
                                name: row.get("name")?,
                                wanted,
                                applied_at_ms: row.get("applied_at_ms")?,
                            })
                        })
                        .optional()
                })
                .map_err(|error| self.named(error))?;
            let missing =
                MigrationEvidence { version: None, name: None, wanted, applied_at_ms: None };
            found.push(on_record.unwrap_or(missing));
        }
        Ok(found)
    }

    /// Counts the migrations on record.
    pub fn migrations_on_record(&self) -> Result<i64, StoreError> {
        self.conn
            .query_row("SELECT count(*) FROM migration", [], |row| row.get(0))
            .map_err(|error| self.named(error))
    }

    /// Returns all sources.
    pub fn source_evidence(&self) -> Vec<Taken<SourceEvidence>> {
        let sql = "SELECT id, format, encoding, bytes, columns, key_column, rows, added_at_ms FROM source ORDER BY id";
        all(self, sql, |row| {
            Ok(SourceEvidence {
                id: row.get("id")?,
                format: row.get("format")?,
                encoding: row.get("encoding")?,
                bytes: row.get("bytes")?,
                columns: row.get("columns")?,
                key_column: row.get("key_column")?,
                rows: row.get("rows")?,
                added_at_ms: row.get("added_at_ms")?,
            })
        })
    }

    /// Returns all prompts.
    pub fn prompt_evidence(&self) -> Vec<Taken<PromptEvidence>> {
        let sql = "SELECT id, name, version, model, endpoint, source, spec, created_at_ms, retired_at_ms, in_words_from_ms
                   FROM prompt ORDER BY id";
        all(self, sql, |row| {
            Ok(PromptEvidence {
                id: row.get("id")?,
                name: row.get("name")?,
                version: row.get("version")?,
                model: row.get("model")?,
                endpoint: row.get("endpoint")?,
                source: row.get("source")?,
                spec: row.get("spec")?,
                created_at_ms: row.get("created_at_ms")?,
                retired_at_ms: row.get("retired_at_ms")?,
                in_words_from_ms: row.get("in_words_from_ms")?,
            })
        })
    }

    /// Returns all runs.
    pub fn run_evidence(&self) -> Vec<Taken<RunEvidence>> {
        let sql = "SELECT id, started_at_ms, ended_at_ms, ended, program_version,
                          CASE WHEN json_valid(settings) THEN json_extract(settings, '$.prices') END AS prices
                   FROM run ORDER BY id";
        all(self, sql, |row| {
            Ok(RunEvidence {
                id: row.get("id")?,
                started_at_ms: row.get("started_at_ms")?,
                ended_at_ms: row.get("ended_at_ms")?,
                ended: row.get("ended")?,
                program_version: row.get("program_version")?,
                prices: row.get("prices")?,
            })
        })
    }

    /// Returns all dictionaries.
    pub fn dictionary_evidence(&self) -> Vec<Taken<DictionaryEvidence>> {
        all(self, "SELECT id, prompt_id, kind, bytes FROM dictionary ORDER BY id", |row| {
            Ok(DictionaryEvidence {
                id: row.get("id")?,
                prompt_id: row.get("prompt_id")?,
                kind: row.get("kind")?,
                bytes: row.get("bytes")?,
            })
        })
    }
}
