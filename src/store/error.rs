//! What can go wrong with a project file, in words that name the file.

use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use super::place;

/// A failure of the record.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such file.
    #[error("there is no project at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// `init` found something there.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// The file is no SQLite database.
    #[error("{} is not an Overnight project: it is not a SQLite database", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database of something else.
    #[error("{} is a SQLite database, but not an Overnight project", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file's format is newer than this program.
    #[error("{} has format {found}, this overnight knows formats up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process is writing and did not finish in time.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder may not be written.
    #[error("{} cannot be written: the file or its folder is read-only", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk that holds {} is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot do what SQLite needs.
    #[error("{} is on a file system without {lacks}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is missing.
        lacks: &'static str,
        /// What SQLite or the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another file stands, or none, where the project was opened.
    #[error("{} was moved, removed or replaced while it was in use", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// The disk fails.
    #[error("the disk that holds {} fails: {what}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// At what.
        what: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system answered with an error.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Any other failure of SQLite.
    #[error("{} cannot be used", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A kept body or reply cannot be unpacked.
    #[error("{what} cannot be read back")]
    Unreadable {
        /// Which body or reply.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The record says something that its own rules do not allow.
    #[error("the record contradicts itself: {0}")]
    Contradiction(String),
    /// A key stands on two lines of one file.
    #[error("line {line}: the key {key:?} stands on line {first} already")]
    DuplicateKey {
        /// The second line.
        line: u64,
        /// The first line.
        first: u64,
        /// The key.
        key: String,
    },
}

impl StoreError {
    /// Names an error of SQLite for what it means to the person whose file it is.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let Some(failure) = source.sqlite_error().copied() else {
            return match is_of_another_kind(&source) {
                true => Self::Damaged { path, source },
                false => Self::Sqlite { path, source },
            };
        };
        match failure.code {
            ErrorCode::NotADatabase => Self::NotADatabase { path },
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed => Self::Locked { path },
            // A file whose head says that it is of a later SQLite is one, too.
            ErrorCode::ReadOnly if failure.extended_code == ffi::SQLITE_READONLY => {
                place::why_not(&path, Self::Damaged { path: path.clone(), source })
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Self::ReadOnly { path },
            ErrorCode::DiskFull => Self::Full { path },
            ErrorCode::DatabaseCorrupt => Self::Damaged { path, source },
            ErrorCode::CannotOpen => {
                let what = "a file beside it cannot be opened";
                place::why_not(&path, Self::Disk { path: path.clone(), what, source })
            }
            ErrorCode::SystemIoFailure => Self::from_io(path, failure.extended_code, source),
            ErrorCode::Unknown if failure.extended_code == ffi::SQLITE_ERROR => {
                Self::Damaged { path, source }
            }
            _ => Self::Sqlite { path, source },
        }
    }

    fn from_io(path: PathBuf, extended_code: i32, source: rusqlite::Error) -> Self {
        let what = match extended_code {
            ffi::SQLITE_IOERR_SHMMAP => {
                let source = source.into();
                return Self::Unfit { path, lacks: "shared memory (mmap)", source };
            }
            ffi::SQLITE_IOERR_LOCK
            | ffi::SQLITE_IOERR_RDLOCK
            | ffi::SQLITE_IOERR_SHMLOCK
            | ffi::SQLITE_IOERR_CHECKRESERVEDLOCK => {
                return Self::Unfit { path, lacks: "file locks", source: source.into() };
            }
            ffi::SQLITE_IOERR_SHORT_READ => return Self::Damaged { path, source },
            ffi::SQLITE_IOERR_READ => "it cannot be read",
            ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE => "it cannot be written",
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => {
                "what is written does not reach it (fsync)"
            }
            ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMOPEN => {
                let what = "a file beside it cannot be made larger";
                return place::why_not(&path, Self::Disk { path: path.clone(), what, source });
            }
            _ => "it cannot be used",
        };
        Self::Disk { path, what, source }
    }

    /// Says whether what is on record may be readable although nothing can be written.
    pub(super) fn leaves_it_readable(&self) -> bool {
        match self {
            Self::ReadOnly { .. } | Self::Full { .. } | Self::Unfit { .. } | Self::Disk { .. } => {
                true
            }
            Self::Missing { .. }
            | Self::Exists { .. }
            | Self::NotADatabase { .. }
            | Self::NotOurs { .. }
            | Self::Newer { .. }
            | Self::Gone { .. }
            | Self::Locked { .. }
            | Self::Damaged { .. }
            | Self::Io { .. }
            | Self::Sqlite { .. }
            | Self::Unreadable { .. }
            | Self::Contradiction(_)
            | Self::DuplicateKey { .. } => false,
        }
    }

    /// Says whether waiting (for space, for another process) can mend it.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Locked { .. }
            | Self::Full { .. }
            | Self::Unfit { .. }
            | Self::Disk { .. }
            | Self::Io { .. } => true,
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(ErrorCode::OutOfMemory)
            }
            Self::Missing { .. }
            | Self::Exists { .. }
            | Self::NotADatabase { .. }
            | Self::NotOurs { .. }
            | Self::Newer { .. }
            | Self::Gone { .. }
            | Self::ReadOnly { .. }
            | Self::Damaged { .. }
            | Self::Unreadable { .. }
            | Self::Contradiction(_)
            | Self::DuplicateKey { .. } => false,
        }
    }
}

/// Says whether a value was found that our own tables never hold, or none where there always is one.
fn is_of_another_kind(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::InvalidColumnName(_)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows
            // All our SQL is fixed: only another schema than ours makes it wrong.
            | rusqlite::Error::SqlInputError { .. }
    )
}
