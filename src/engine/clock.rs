//! The clock: the one place that asks what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::UnixMs;

/// The time of day, and the time since this clock was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts a clock.
    #[expect(clippy::disallowed_methods, reason = "the one home of asking the time")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Returns the time of day.
    #[expect(clippy::disallowed_methods, reason = "the one home of asking the time")]
    pub fn now() -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns a time of day as one since the start; one that has passed as none.
    pub fn at(&self, time: UnixMs) -> Duration {
        let ahead = u64::try_from(time.0 - Self::now().0).unwrap_or(0);
        match ahead {
            0 => Duration::ZERO,
            ahead => self.elapsed() + Duration::from_millis(ahead),
        }
    }

    /// Returns the time since the start; never runs backwards.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
