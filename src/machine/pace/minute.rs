//! How much was sent in the last minute.

use std::time::Duration;

/// The parts of a minute, and one that is being filled.
const PARTS: usize = 241;
const PART_MS: u128 = 250;

/// What was sent in each part of the last minute.
#[derive(Clone, Debug)]
pub(super) struct Minute {
    parts: Vec<f64>,
    /// The number of the part that is being filled, from the start of the run.
    part: u128,
    sum: f64,
}

impl Minute {
    pub(super) fn new() -> Self {
        Self { parts: vec![0.0; PARTS], part: 0, sum: 0.0 }
    }

    /// Counts so much at a moment.
    pub(super) fn add(&mut self, now: Duration, amount: f64) {
        self.pass(now);
        self.sum += amount;
        self.parts[(self.part % PARTS as u128) as usize] += amount;
    }

    /// Returns how much that was in the last minute.
    pub(super) fn sum(&mut self, now: Duration) -> f64 {
        self.pass(now);
        self.sum.max(0.0)
    }

    fn pass(&mut self, now: Duration) {
        let part = now.as_millis() / PART_MS;
        let passed = part.saturating_sub(self.part).min(PARTS as u128);
        self.part = self.part.max(part);
        for back in 0..passed {
            let index = ((self.part - back) % PARTS as u128) as usize;
            self.sum -= std::mem::take(&mut self.parts[index]);
        }
        if passed == PARTS as u128 {
            self.sum = 0.0;
        }
    }
}
