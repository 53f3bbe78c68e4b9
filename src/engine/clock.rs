//! The clock: the one place that asks what time it is.
//!
//! A simulated one counts the runtime's own time, which a test may have paused: an hour then passes as
//! soon as nothing else is left to do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::UnixMs;

/// The time of day, and the time since this clock was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    day: Day,
}

/// Where the time of day comes from.
#[derive(Clone, Copy, Debug)]
enum Day {
    /// The machine, whose time goes on while it sleeps and can be set.
    Machine,
    /// This time, and what has passed since the start.
    From(UnixMs),
}

impl Clock {
    /// Starts a clock.
    pub fn start() -> Self {
        Self { start: Instant::now(), day: Day::Machine }
    }

    /// Starts a clock whose time of day begins at `from` and goes by the runtime's time.
    pub fn simulated(from: UnixMs) -> Self {
        Self { start: Instant::now(), day: Day::From(from) }
    }

    /// Returns the machine's time of day.
    #[expect(clippy::disallowed_methods, reason = "the one home of asking the time")]
    pub fn now() -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns this clock's time of day.
    pub fn time_of_day(&self) -> UnixMs {
        match self.day {
            Day::Machine => Self::now(),
            Day::From(UnixMs(from)) => {
                let since = i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX);
                UnixMs(from.saturating_add(since))
            }
        }
    }

    /// Returns a time of day as one since the start; one that has passed as none.
    pub fn at(&self, time: UnixMs) -> Duration {
        let ahead = u64::try_from(time.0 - self.time_of_day().0).unwrap_or(0);
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
