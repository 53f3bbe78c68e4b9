//! Where a test stops the process, as a kill or a cut of power would: right before and right after every commit, and
//! at every step of every call.
//!
//! The points that a process passes are counted; at the one that was ordered it dies at once: nothing is unwound,
//! closed, flushed or said. SQLite itself tells of commits, of whatever statement they come, so none can be
//! forgotten. Whoever sends calls tells of their steps. Here because the connections are; that also the engine passes
//! points is no reason to know it.
//!
//! Only a debug build has any of this, and only where it is armed. It must never change what a process does on its
//! way to the point: unarmed, no hook is set at all.

/// What is about to happen, or has just happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Nothing of a call has been sent.
    BeforeSend,
    /// A part of a call's body is handed to the socket.
    PartSent,
    /// A reply has begun: the call was handed over whole, and nobody here knows yet.
    ReplyBegun,
    /// A part of a file is there that is being fetched, and has not been read.
    PartCame,
    /// A whole reply is there, and has not been read.
    ReplyWhole,
    /// A file is whole, and not in its place.
    BeforeMove,
    /// A file is in its place.
    AfterMove,
}

/// Passes a point.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "for debug builds"))]
pub(crate) fn pass(point: Point) {
    #[cfg(debug_assertions)]
    armed::pass(armed::word(point), ("", ""));
}

/// Passes a point of a call, which is named for the list of points by its method and path.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "for debug builds"))]
pub(crate) fn pass_call(point: Point, (method, path): (&str, &str)) {
    #[cfg(debug_assertions)]
    armed::pass(armed::word(point), (method, path));
}

#[cfg(debug_assertions)]
pub(crate) use armed::{arm, watch};

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rusqlite::Connection;

    use super::Point;

    /// Pages in the WAL at which SQLite folds them back by itself: its own default, which a hook on the WAL displaces.
    const CHECKPOINT_PAGES: i32 = 1000;

    struct Armed {
        passed: u64,
        stop_at: Option<u64>,
        list: Option<File>,
    }

    static ARMED: OnceLock<Mutex<Armed>> = OnceLock::new();

    /// Has the process die at the point of this number, counted from 1, and list the points that it passes in a file.
    pub(crate) fn arm(stop_at: Option<u64>, list: Option<&Path>) -> std::io::Result<()> {
        let list = list.map(File::create).transpose()?;
        if stop_at.is_some() || list.is_some() {
            // A process is armed once, before it does anything.
            let _ = ARMED.set(Mutex::new(Armed { passed: 0, stop_at, list }));
        }
        Ok(())
    }

    /// Has a connection pass a point before and after each of its commits.
    ///
    /// A commit that had nothing to write passes only the first.
    pub(crate) fn watch(conn: &mut Connection) -> rusqlite::Result<()> {
        if ARMED.get().is_none() {
            return Ok(());
        }
        conn.commit_hook(Some(|| {
            pass("before_commit", ("", ""));
            false
        }))?;
        conn.wal_hook(Some(|wal: &mut rusqlite::hooks::Wal, pages| {
            pass("after_commit", ("", ""));
            match pages >= CHECKPOINT_PAGES {
                true => wal.checkpoint(),
                false => Ok(()),
            }
        }))
    }

    pub(super) fn word(point: Point) -> &'static str {
        match point {
            Point::BeforeSend => "before_send",
            Point::PartSent => "part_sent",
            Point::ReplyBegun => "reply_begun",
            Point::PartCame => "part_came",
            Point::ReplyWhole => "reply_whole",
            Point::BeforeMove => "before_move",
            Point::AfterMove => "after_move",
        }
    }

    pub(super) fn pass(point: &str, (method, path): (&str, &str)) {
        let Some(armed) = ARMED.get() else { return };
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.passed += 1;
        if let Some(list) = &mut armed.list {
            // One write a line, so that it is whole whatever comes next; a list that cannot be written is short.
            let _ = list.write_all(format!("{point} {method} {path}\n").as_bytes());
        }
        if armed.stop_at == Some(armed.passed) {
            std::process::abort();
        }
    }
}
