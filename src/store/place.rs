//! What the disk under a project lets one do, asked when SQLite has failed and cannot say why.
//!
//! SQLite takes a file system that refuses locks for another process that holds one, and has one word for all
//! files that it cannot open. Never opens the project's file: closing it again would take away the locks that
//! other connections of this process have on it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// As large as the first part of the file that connections share.
static SOME_BYTES: [u8; 32 * 1024] = [0; 32 * 1024];

/// Names what keeps a project, or a file beside it, from being opened or made larger; `otherwise` where nothing does
/// any more.
pub(super) fn why_not(path: &Path, otherwise: StoreError) -> StoreError {
    match may_be_read(path).and_then(|()| may_be_written(path)) {
        Ok(()) => otherwise,
        Err(source) => named(path, source),
    }
}

/// Names an error of the system for what it means to the person whose project it is.
pub(super) fn named(path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Io { path, source },
    }
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

/// Returns which file stands at a path; `None` where none does, or where files have no identity.
#[cfg(unix)]
pub(super) fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| Identity(meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
pub(super) fn identity(_: &Path) -> Option<Identity> {
    // A file that is open cannot be moved there.
    None
}

/// Tells a file system that has no locks from another process that holds one.
pub(super) fn with_locks(error: StoreError) -> StoreError {
    match error {
        StoreError::Locked { path } => match locks_beside(&path) {
            Ok(()) => StoreError::Locked { path },
            Err(source) => without_locks(&path, source),
        },
        other => other,
    }
}

/// Returns the error for a file system without locks.
pub(super) fn without_locks(path: &Path, source: io::Error) -> StoreError {
    StoreError::Unfit { path: path.to_owned(), lacks: "file locks", source: Box::new(source) }
}

#[cfg(unix)]
fn may_be_read(path: &Path) -> io::Result<()> {
    // No permission to read is no permission to write, and would read as such.
    rustix::fs::access(path, rustix::fs::Access::READ_OK)
        .map_err(|error| io::Error::other(io::Error::from(error)))
}

#[cfg(not(unix))]
fn may_be_read(path: &Path) -> io::Result<()> {
    std::fs::metadata(path).map(|_| ())
}

fn may_be_written(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?;
    tempfile::tempfile_in(folder(path)).and_then(|mut file| file.write_all(&SOME_BYTES))
}

/// Takes the kind of lock that SQLite takes, on a file without a name beside the project.
#[cfg(unix)]
fn locks_beside(project: &Path) -> io::Result<()> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    // Where no file can be made, it is not the locks that are in the way.
    let Ok(file) = tempfile::tempfile_in(folder(project)) else { return Ok(()) };
    Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?)
}

#[cfg(not(unix))]
fn locks_beside(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Returns the bytes that may still be written on the disk that a folder is on, where that can be told.
#[cfg(unix)]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Returns the bytes that may still be written on the disk that a folder is on, where that can be told.
#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
}

fn folder(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}
