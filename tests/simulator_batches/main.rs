//! The simulated provider's files and batches, seen from the other end of a socket.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod client;
mod faults;
mod files;
mod life;
#[path = "../simulated/mod.rs"]
mod simulated;
