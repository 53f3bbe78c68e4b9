//! The batch route through the real binary, held against the books of the simulated provider.
//!
//! The ledger is the other side's: what it charged, for which body, how many files came and how many batches
//! were made. What the project file says of money must be what the ledger says, whatever went wrong on the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod crowd;
mod faults;
mod shop;
#[path = "../support/mod.rs"]
mod support;
mod ways;
