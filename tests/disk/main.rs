//! The disk fails in every way that a disk can: full, broken, read-only, poor in what it can do, or with other bytes
//! on it than were written. Whatever it does, a command says so clearly or goes on rightly, what was committed stays
//! readable, and nothing is sent that is not on record.
//!
//! Faults come from `shim.c`, which stands between the program and the files of its folder and has the N-th
//! write, flush or other step fail. Each is tried for every N that there is.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "the record is looked at as any other program would"
)]

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod every_step;
mod look;
mod places;
mod shim;
mod torn;
