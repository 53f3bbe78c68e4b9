//! Commands whose disk fails at a step that a test names.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Folder, Said};

/// Steps that are counted, in the order of the shim's book.
const KINDS: [&str; 8] = ["write", "sync", "open", "unlink", "mmap", "lock", "flock", "read"];

pub(crate) const EIO: i32 = 5;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENODEV: i32 = 19;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;
pub(crate) const ENOLCK: i32 = 37;
pub(crate) const EOPNOTSUPP: i32 = 95;

/// How long a failure lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    Once,
    FromThenOn,
}

/// What fails, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    /// From 1; 0 is never.
    pub(crate) at: u64,
    pub(crate) errno: i32,
    pub(crate) lasts: Lasts,
    /// The write that fails first writes half.
    pub(crate) is_short: bool,
    /// What was not flushed is gone after a flush that fails.
    pub(crate) loses: bool,
    /// By how many bytes files may grow.
    pub(crate) room: Option<u64>,
}

impl Fault {
    /// A disk on which nothing fails.
    pub(crate) fn none() -> Self {
        Self::at("write", 0, EIO)
    }

    /// One that fails at the N-th step of a kind, once.
    pub(crate) fn at(kind: &'static str, at: u64, errno: i32) -> Self {
        assert!(KINDS.contains(&kind));
        let lasts = Lasts::Once;
        Self { kind, at, errno, lasts, is_short: false, loses: false, room: None }
    }

    /// One on which a kind of step never works.
    pub(crate) fn always(kind: &'static str, errno: i32) -> Self {
        Self::at(kind, 1, errno).lasting(Lasts::FromThenOn)
    }

    pub(crate) fn lasting(self, lasts: Lasts) -> Self {
        Self { lasts, ..self }
    }

    pub(crate) fn short(self) -> Self {
        Self { is_short: true, ..self }
    }

    pub(crate) fn losing(self) -> Self {
        Self { loses: true, ..self }
    }

    /// A disk with room for so many more bytes.
    pub(crate) fn room(bytes: u64) -> Self {
        Self { room: Some(bytes), ..Self::none() }
    }
}

/// How a command went on such a disk.
#[derive(Debug)]
pub(crate) struct Went {
    pub(crate) said: Said,
    counts: Vec<u64>,
}

impl Went {
    /// How many steps were made to fail.
    pub(crate) fn failed(&self) -> u64 {
        self.counts[KINDS.len()]
    }
}

/// Runs a command in a folder on a disk with a fault. One that hangs is ended, and fails the test.
#[track_caller]
pub(crate) fn run(folder: &Folder, args: &[&str], fault: Fault) -> Went {
    let books = tempfile::tempdir().unwrap();
    let book = books.path().join("book");
    let mut command = folder.command(args);
    load(&mut command, folder, fault).env("SHIM_BOOK", &book);
    let said = Said::of(command.output().unwrap());
    let bytes = std::fs::read(&book).expect("the shim was not there");
    let counts: Vec<u64> =
        bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    let went = Went { said, counts };
    ended_well(&went.said, args, fault);
    went
}

/// Whatever happens, a command ends by itself and says what is wrong and what to do.
#[track_caller]
pub(crate) fn ended_well(said: &Said, args: &[&str], fault: impl std::fmt::Debug) {
    let code = said.code.unwrap_or_else(|| panic!("hung or died: {args:?} {fault:?} {said:#?}"));
    assert!([0, 1, 3, 4].contains(&code), "{args:?} {fault:?} {said:#?}");
    assert!(!said.stderr.contains("panicked"), "{args:?} {fault:?} {said:#?}");
    if code == 1 {
        assert!(said.stderr.contains("error: "), "{args:?} {fault:?} {said:#?}");
        assert!(said.stderr.contains("hint: "), "no way out: {args:?} {fault:?} {said:#?}");
    }
}

fn load<'a>(command: &'a mut Command, folder: &Folder, fault: Fault) -> &'a mut Command {
    command
        .env("LD_PRELOAD", library())
        .env("SHIM_UNDER", folder.path().canonicalize().unwrap())
        .env("SHIM_KIND", fault.kind)
        .env("SHIM_AT", fault.at.to_string())
        .env("SHIM_ERRNO", fault.errno.to_string())
        .env("OVERNIGHT_PATIENCE", "120ms");
    if fault.lasts == Lasts::FromThenOn {
        command.env("SHIM_MODE", "on");
    }
    if fault.is_short {
        command.env("SHIM_SHORT", "1");
    }
    if fault.loses {
        command.env("SHIM_LOST", "1");
    }
    if let Some(room) = fault.room {
        command.env("SHIM_ROOM", room.to_string());
    }
    command
}

/// The shim, compiled once.
fn library() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(&folder).unwrap();
        let (source, made) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/shim.c"), folder.join("shim.so"));
        let fresh = folder.join(format!("shim.{}.so", std::process::id()));
        let done = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([fresh.as_os_str(), source.as_ref(), "-ldl".as_ref(), "-lpthread".as_ref()])
            .status();
        assert!(done.unwrap().success(), "cc cannot compile the shim");
        // In one step, so that a test of another process never loads half of it.
        std::fs::rename(&fresh, &made).unwrap();
        made
    })
    .clone()
}
