//! One run a project.
//!
//! The lock is the operating system's, on a file beside the project, so it dies with the process
//! that holds it: a crash leaves at worst a file and never a lock. The file is removed at a
//! clean end, so that one file is left. What stands in it names its holder to whoever is refused, and decides
//! nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::open::with_suffix;
use super::{StoreError, place};

/// The bytes that a holder is described by.
const MOST_WORDS: u64 = 300;

/// Held by the one run of a project.
pub struct RunLock {
    file: File,
    path: PathBuf,
}

/// Whether a run is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// A run holds the lock now.
    Running,
    /// No run is on.
    Idle,
}

impl RunLock {
    /// Takes the lock; `None` where another process has it.
    pub fn take(project: &Path) -> Result<Option<Self>, StoreError> {
        let path = with_suffix(project, "-run");
        loop {
            let file = open_private(&path).map_err(|error| place::named(&path, error))?;
            match file.try_lock() {
                // Whoever held it before may have removed the file we opened: then ours counts for nothing.
                Ok(()) if is_at(&file, &path) => return Ok(Some(Self { file, path })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    // Nobody can have a lock on it.
                    let _ = std::fs::remove_file(&path);
                    return Err(place::without_locks(project, error));
                }
            }
        }
    }

    /// Writes down who holds it, in words for a person. No more than a courtesy: what fails here is not said.
    pub fn sign(&self, holder: &str) {
        let mut file = &self.file;
        let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
    }

    /// Returns what the holder of the lock has written of itself.
    pub fn holder(project: &Path) -> Option<String> {
        let file = File::open(with_suffix(project, "-run")).ok()?;
        let mut words = String::new();
        file.take(MOST_WORDS).read_to_string(&mut words).ok()?;
        (!words.is_empty() && !words.contains(char::is_control)).then_some(words)
    }

    /// Asks whether a run is on, without taking anything that could be in a run's way.
    pub fn look(project: &Path) -> LockState {
        let Ok(file) = File::open(with_suffix(project, "-run")) else { return LockState::Idle };
        match file.try_lock_shared() {
            Ok(()) | Err(TryLockError::Error(_)) => LockState::Idle,
            Err(TryLockError::WouldBlock) => LockState::Running,
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody can take the name in between.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_and_a_gone_one_is_never_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("overnight.db");
        assert_eq!(RunLock::look(&project), LockState::Idle);
        let first = RunLock::take(&project).unwrap().unwrap();
        assert_eq!(RunLock::look(&project), LockState::Running);
        assert!(RunLock::take(&project).unwrap().is_none());
        drop(first);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        // What a crash leaves: the file, unlocked.
        std::fs::write(dir.path().join("overnight.db-run"), "").unwrap();
        assert_eq!(RunLock::look(&project), LockState::Idle);
        assert!(RunLock::take(&project).unwrap().is_some());
    }
}
