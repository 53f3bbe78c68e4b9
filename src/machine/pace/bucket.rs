//! The rates that a person set: hard, in every minute.

use std::time::Duration;

/// A token bucket that may go into debt for one request bigger than itself.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// Makes one that spreads a rate evenly, so that no minute holds more than it allows.
    pub(super) fn strict(per_minute: f64) -> Self {
        let per_second = per_minute.max(1.0) / 60.0;
        let capacity = (per_second / 10.0).max(1.0);
        // Less what a full bucket adds to a minute, so that no minute holds more than the rate.
        let per_second = per_second - (capacity - 1.0) / 60.0;
        Self { per_second, capacity, level: capacity, at: Duration::ZERO }
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// Returns how long until there is enough.
    pub(super) fn ready_in(&mut self, now: Duration, need: f64) -> Duration {
        self.fill(now);
        wait_for(need.min(self.capacity) - self.level, self.per_second)
    }

    pub(super) fn take(&mut self, now: Duration, need: f64) {
        self.fill(now);
        self.level -= need;
    }

    /// Gives back what was taken for nothing, or takes what was counted too low.
    pub(super) fn correct(&mut self, by: f64) {
        self.level = (self.level + by).min(self.capacity);
    }
}

/// Returns how long a flow takes to bring what is missing: a millisecond at least, an hour at most.
pub(super) fn wait_for(missing: f64, per_second: f64) -> Duration {
    if missing <= 1e-9 {
        return Duration::ZERO;
    }
    let seconds = missing / per_second;
    Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(0.001, 3600.0) } else { 3600.0 })
}
