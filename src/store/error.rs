//! What can go wrong with a project file, in words that name the file.

use std::path::PathBuf;

use rusqlite::ErrorCode;

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
    pub(super) fn from_sqlite(path: &std::path::Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, source },
            _ => Self::Sqlite { path, source },
        }
    }

    /// Says whether waiting (for space, for another process) can mend it.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Full { .. } | Self::Io { .. } => true,
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory)
            ),
            Self::Missing { .. }
            | Self::Exists { .. }
            | Self::NotADatabase { .. }
            | Self::NotOurs { .. }
            | Self::Newer { .. }
            | Self::ReadOnly { .. }
            | Self::Damaged { .. }
            | Self::Unreadable { .. }
            | Self::Contradiction(_)
            | Self::DuplicateKey { .. } => false,
        }
    }
}
