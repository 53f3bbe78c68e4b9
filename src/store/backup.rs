//! A copy of a project that is whole at every moment, taken while a run goes on.
//!
//! `VACUUM INTO` reads one snapshot in one read transaction, so it neither waits for a run nor keeps it
//! waiting, and it reads every row, so a damaged file makes an error and not a damaged copy. The copy is
//! written beside its place, brought to the disk, opened once, and renamed; until then nothing is seen of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;
use tempfile::{Builder, NamedTempFile};

use super::open::{connect, with_suffix};
use super::{Store, StoreError};

/// What SQLite keeps beside a database: with another database under the same name, these would be read into it.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A whole copy that has not got its name yet. Dropped without [`Backup::put`], it leaves no trace.
pub struct Backup {
    temp: NamedTempFile,
    target: PathBuf,
    sweep: Sweep,
}

/// Removes what SQLite may have left beside a file.
struct Sweep(PathBuf);

impl Backup {
    /// Copies a project, as it stands at this moment, beside `target`.
    pub fn of(project: &Path, target: &Path) -> Result<Self, StoreError> {
        let store = Store::open_to_copy(project)?;
        let temp = beside(target)?;
        let sweep = Sweep(temp.path().to_owned());
        let backup = Self { temp, target: target.to_owned(), sweep };
        let name = backup.temp.path().to_string_lossy().into_owned();
        store.conn.execute("VACUUM main INTO ?1", [&name]).map_err(|error| {
            match StoreError::from_sqlite(project, error) {
                // Only the copy is written.
                StoreError::Full { .. } => StoreError::Full { path: target.to_owned() },
                StoreError::ReadOnly { .. } => StoreError::ReadOnly { path: target.to_owned() },
                other => other,
            }
        })?;
        backup.finish()?;
        Ok(backup)
    }

    /// Where the copy is by now.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Returns the size of the copy.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let meta = self.temp.as_file().metadata();
        meta.map(|meta| meta.len()).map_err(|error| named(&self.target, error))
    }

    /// Gives the copy its name, in place of what has it.
    pub fn put(self) -> Result<(), StoreError> {
        let Self { temp, target, sweep } = self;
        leftovers(&target)
            .iter()
            .try_for_each(std::fs::remove_file)
            .map_err(|error| named(&target, error))?;
        temp.persist(&target).map_err(|error| named(&target, error.error))?;
        drop(sweep);
        // The file is whole and in its place; after a power cut it would at worst be gone.
        if cfg!(unix) {
            let _ = File::open(folder(&target)).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    /// Makes it a database that is read while it is written, as every project is, and brings it to the disk.
    fn finish(&self) -> Result<(), StoreError> {
        let sql = |error| StoreError::from_sqlite(&self.target, error);
        let conn = connect(self.path(), OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
        conn.pragma_update(None, "journal_mode", "WAL").map_err(sql)?;
        conn.close().map_err(|(_, error)| sql(error))?;
        self.temp.as_file().sync_all().map_err(|error| named(&self.target, error))
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        leftovers(&self.0).iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Returns what another database has left beside the place of a copy.
pub fn leftovers(target: &Path) -> Vec<PathBuf> {
    BESIDE.iter().map(|suffix| with_suffix(target, suffix)).filter(|path| path.exists()).collect()
}

fn beside(target: &Path) -> Result<NamedTempFile, StoreError> {
    let mut builder = Builder::new();
    builder.prefix(".overnight-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
    builder.tempfile_in(folder(target)).map_err(|error| named(target, error))
}

fn folder(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn named(target: &Path, source: std::io::Error) -> StoreError {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let path = target.to_owned();
    // The name of the file beside is none that a person has heard of.
    let source = match source.to_string().split_once(" at path ") {
        Some((what, _)) => std::io::Error::new(source.kind(), what.to_owned()),
        None => source,
    };
    match source.kind() {
        StorageFull | QuotaExceeded => StoreError::Full { path },
        PermissionDenied | ReadOnlyFilesystem => StoreError::ReadOnly { path },
        _ => StoreError::Io { path, source },
    }
}
