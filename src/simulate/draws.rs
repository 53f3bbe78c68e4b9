//! What has come to each moment so far, and the draws for what comes.
//!
//! Calls and lines of batches are told apart by their bodies, which the ledger counts; for the rest
//! the counts are kept here. Each use of chance has a stream of numbers of its own, so that no fault
//! changes an answer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use sha2::{Digest as _, Sha256};

use super::Settings;
use super::fault::{Fault, Moment};
use super::faults::Draw;
use super::ledger::lock;
use crate::domain::UnixMs;

/// How often each moment was reached.
#[derive(Debug, Default)]
pub(super) struct Draws {
    counts: [AtomicU64; Moment::ALL.len()],
    same: Mutex<HashMap<(Moment, [u8; 32]), u64>>,
}

/// What a draw is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The same body always gets the same answer.
    Answer,
    /// Each further try of a body draws anew.
    Fault(u64),
    Latency(u64),
    Id(u64),
    /// The order in which the lines of a batch are worked on.
    Order,
    /// The names of files, batches and the lines of their results.
    Name(u64),
}

impl Draws {
    /// Counts that `moment` was reached; returns how often it was before.
    pub(super) fn count(&self, moment: Moment) -> u64 {
        self.counts[moment as usize].fetch_add(1, Ordering::Relaxed)
    }

    /// Counts that `moment` was reached by what `key` names, and draws the fault that strikes it.
    pub(super) fn draw(&self, settings: &Settings, moment: Moment, key: &[u8]) -> Option<Fault> {
        let before = self.count(moment);
        if !settings.faults.any_at(moment) {
            return None;
        }
        let key: [u8; 32] = Sha256::digest(key).into();
        let same_before = {
            let mut same = lock(&self.same);
            let count = same.entry((moment, key)).or_default();
            *count += 1;
            *count - 1
        };
        let mut of_moment = key;
        of_moment[0] ^= moment as u8;
        let unit = rng(settings.seed, &of_moment, Purpose::Fault(same_before)).f64();
        settings.faults.pick(Draw { moment, before, same_before, unit })
    }
}

/// The names of one kind of thing, each given once.
///
/// They follow from the seed, from when the simulator started and from how many came before, so
/// that a simulator that is started again never calls a new thing by an old name.
#[derive(Debug)]
pub(super) struct Names {
    seed: u64,
    key: [u8; 32],
    given: u64,
}

impl Names {
    /// Makes the names for `kind`.
    pub(super) fn new(seed: u64, kind: &str, started: UnixMs) -> Self {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update(started.0.to_le_bytes());
        Self { seed, key: hash.finalize().into(), given: 0 }
    }

    /// Returns the number of the next thing, from 0, and the stream that its name is drawn from.
    pub(super) fn next(&mut self) -> (u64, Rng) {
        let number = self.given;
        self.given += 1;
        (number, rng(self.seed, &self.key, Purpose::Name(number)))
    }
}

/// Returns the stream of numbers for one use of chance.
pub(super) fn rng(seed: u64, key: &[u8; 32], purpose: Purpose) -> Rng {
    let (stream, nth) = match purpose {
        Purpose::Answer => (1, 0),
        Purpose::Fault(nth) => (2, nth),
        Purpose::Latency(nth) => (3, nth),
        Purpose::Id(nth) => (4, nth),
        Purpose::Order => (5, 0),
        Purpose::Name(nth) => (6, nth),
    };
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(key);
    hash.update([stream]);
    hash.update(nth.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Rng::with_seed(u64::from_le_bytes(first))
}
