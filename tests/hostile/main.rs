//! A provider that lies, floods, drips and points elsewhere, through the real binary and raw sockets.
//!
//! Whatever comes back, a run ends by itself, in bounded time and memory, with an exit code that is true, the right
//! class on record, no word of a reply in an error, and what was paid for kept.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "`--nocapture` shows the figures")]

mod calls;
mod child;
mod control;
mod fields;
mod matrix;
mod memory;
mod plays;
mod redirects;
#[path = "../batch_ledger/shop.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod shop;
#[path = "../support/mod.rs"]
mod support;
mod tls;
