//! Which format a file has, and how an older one becomes ours.
//!
//! A migration is a numbered file in `migrations/`. All that are missing are applied in one
//! transaction, with `user_version` and a line in `migration` each. A released migration never
//! changes: a change of the record is the next number. A file that may not be written is shown in our
//! format without being changed, and without a copy that would grow with it.

use rusqlite::{Connection, params};

use crate::domain::UnixMs;

/// Marks a SQLite file as ours: `OVRN`.
pub(super) const APPLICATION_ID: i32 = 0x4F56_524E;

/// Every format there was, oldest first.
const MIGRATIONS: [(&str, &str); 4] = [
    ("first_format", include_str!("../../migrations/0001_first_format.sql")),
    ("batches", include_str!("../../migrations/0002_batches.sql")),
    ("money", include_str!("../../migrations/0003_money.sql")),
    ("scale", include_str!("../../migrations/0004_scale.sql")),
];

/// What shows a file of an older format, oldest first, as one of the newest to a connection that may not write.
const UNMIGRATED: [&str; MIGRATIONS.len() - 1] = [
    concat!(
        include_str!("../../migrations/unmigrated/0001.sql"),
        include_str!("../../migrations/unmigrated/0003.sql")
    ),
    concat!(
        include_str!("../../migrations/unmigrated/0002.sql"),
        include_str!("../../migrations/unmigrated/0003.sql")
    ),
    include_str!("../../migrations/unmigrated/0003.sql"),
];

/// The format that this program writes.
pub(super) fn newest() -> i64 {
    MIGRATIONS.len() as i64
}

/// Returns the format of an open file.
pub(super) fn format_of(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Names the migrations, oldest first.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().map(|(name, _)| *name)
}

/// Makes a project of a format in memory, with nothing in it: what a schema is held against.
pub(super) fn fresh(format: i64) -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    let upto = usize::try_from(format).unwrap_or(0);
    MIGRATIONS.iter().take(upto).try_for_each(|(_, sql)| conn.execute_batch(sql))?;
    Ok(conn)
}

/// Lets this connection see the file in our format, and leaves the file as it is.
pub(super) fn show(conn: &Connection) -> rusqlite::Result<()> {
    let format = usize::try_from(format_of(conn)?).unwrap_or(0);
    match format.checked_sub(1).and_then(|older| UNMIGRATED.get(older)) {
        Some(sql) => conn.execute_batch(sql),
        None => Ok(()),
    }
}

/// Returns the name of a table, index or view that is not in the file as our migrations make it. What others have put
/// beside them is theirs.
pub(super) fn altered(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let mut ours = Connection::open_in_memory()?;
    apply(&mut ours, UnixMs(0))?;
    let mut made = ours.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let mut made = made.query([])?;
    let mut there =
        conn.prepare_cached("SELECT count(*) FROM sqlite_schema WHERE name = ?1 AND sql = ?2")?;
    while let Some(row) = made.next()? {
        let (name, sql): (String, String) = (row.get("name")?, row.get("sql")?);
        let found: i64 = there.query_row((&name, &sql), |row| row.get(0))?;
        if found == 0 {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Brings the file to our format. Does nothing where it is there already.
pub(super) fn apply(conn: &mut Connection, now: UnixMs) -> rusqlite::Result<()> {
    if format_of(conn)? >= newest() {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Asked again under the lock: another process may have been faster.
    let from = usize::try_from(format_of(&tx)?).unwrap_or(0);
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().skip(from) {
        let version = index as i64 + 1;
        tx.execute_batch(sql)?;
        tx.execute(
            "INSERT INTO migration (version, name, applied_at_ms, program_version)
             VALUES (?1, ?2, ?3, ?4)",
            params![version, name, now.0, env!("CARGO_PKG_VERSION")],
        )?;
        tx.pragma_update(None, "user_version", version)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()
}
