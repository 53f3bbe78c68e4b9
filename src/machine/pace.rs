//! How fast to send: how many at once, and how soon the next one.
//!
//! Additive growth while answers come, a cut when the provider says it is too much, a pause where it
//! asks for one, and token buckets for the rates that a person or the provider's headers set.
//! Pure: time is the time since the run began, handed in; nothing here sleeps.

use std::time::Duration;

use crate::domain::FailureClass;

/// Where the number in flight starts when nobody said otherwise.
const START: u32 = 8;
/// How far it grows when nobody said otherwise.
const DEFAULT_CAP: u32 = 256;
/// Failures in a row, with no answer between, after which a provider that has answered is taken to be away.
const AWAY_AFTER: u32 = 12;
/// The longest pause between two looks at a provider that is away.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause that a provider is granted at its asking.
const LONGEST_ASKED: Duration = Duration::from_mins(10);
/// A provider's count that is so many times what was guessed, and above this, is not believed any further: it must not
/// keep the run waiting for ever.
const MOST_OFF: u64 = 8;
const MOST_UNGUESSED: u64 = 20_000;
/// Cuts closer together than this are one cut: they answer to the same burst.
const ONE_CUT: Duration = Duration::from_secs(1);

/// What a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaceSettings {
    /// At most so many in flight, and so many at once.
    pub concurrency: Option<u32>,
    /// Requests per minute.
    pub rpm: Option<u32>,
    /// Tokens per minute, input and output together.
    pub tpm: Option<u32>,
}

/// Whether a request may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Now.
    Go,
    /// Not before so much time has passed.
    Wait(Duration),
    /// Not before one in flight has landed.
    Full,
}

/// How a call went, as far as the pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The provider answered it, whatever the answer was worth.
    Served,
    /// It failed.
    Failed(Failed),
}

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// In which way.
    pub class: FailureClass,
    /// How long a pause the provider asked for.
    pub asked: Option<Duration>,
    /// Whether it was its request's first try. That a request fails which has failed before says
    /// more of the request than of the provider.
    pub is_first_try: bool,
}

/// What a provider's headers say of one of its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitSeen {
    /// So many a minute.
    pub per_minute: f64,
    /// So many are left now.
    pub remaining: f64,
}

/// What the headers of one reply say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// The number of its request.
    pub number: u64,
    /// How long the request was under way.
    pub took: Duration,
    /// Of requests a minute.
    pub requests: Option<LimitSeen>,
    /// Of tokens a minute.
    pub tokens: Option<LimitSeen>,
}

/// The pace at one model of one provider.
#[derive(Clone, Debug)]
pub struct Pace {
    cap: u32,
    limit: f64,
    doubling: bool,
    in_flight: u32,
    started: u64,
    last_cut: Option<Duration>,
    paused_until: Duration,
    failures_in_a_row: u32,
    has_served: bool,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    seen_requests: Option<Bucket>,
    seen_tokens: Option<Bucket>,
}

impl Pace {
    /// Starts at what a person asked for, else low.
    pub fn new(settings: PaceSettings) -> Self {
        let cap = settings.concurrency.unwrap_or(DEFAULT_CAP).max(1);
        let start = settings.concurrency.unwrap_or(START).max(1);
        Self {
            cap,
            limit: f64::from(start),
            doubling: true,
            in_flight: 0,
            started: 0,
            last_cut: None,
            paused_until: Duration::ZERO,
            failures_in_a_row: 0,
            has_served: false,
            requests: settings.rpm.map(|rpm| Bucket::strict(f64::from(rpm))),
            tokens: settings.tpm.map(|tpm| Bucket::strict(f64::from(tpm))),
            seen_requests: None,
            seen_tokens: None,
        }
    }

    /// Says whether a request of about so many tokens may go at `now`.
    pub fn ask(&mut self, now: Duration, tokens: u64) -> Permit {
        if self.in_flight >= self.allowed() {
            return Permit::Full;
        }
        let mut wait = self.paused_until.saturating_sub(now);
        let buckets = [
            (&mut self.requests, 1.0),
            (&mut self.seen_requests, 1.0),
            (&mut self.tokens, tokens as f64),
            (&mut self.seen_tokens, tokens as f64),
        ];
        for (bucket, need) in buckets {
            if let Some(bucket) = bucket {
                wait = wait.max(bucket.ready_in(now, need));
            }
        }
        if wait.is_zero() { Permit::Go } else { Permit::Wait(wait) }
    }

    /// Notes that a request of about so many tokens goes. Returns its number, for [`Pace::heard`].
    pub fn start(&mut self, now: Duration, tokens: u64) -> u64 {
        self.in_flight += 1;
        self.started += 1;
        for (bucket, need) in [
            (&mut self.requests, 1.0),
            (&mut self.seen_requests, 1.0),
            (&mut self.tokens, tokens as f64),
            (&mut self.seen_tokens, tokens as f64),
        ] {
            if let Some(bucket) = bucket {
                bucket.take(now, need);
            }
        }
        if let Some(bucket) = &mut self.seen_tokens {
            // No provider counts on beyond a whole minute.
            bucket.level = bucket.level.max(-bucket.capacity);
        }
        self.started
    }

    /// Notes that a request of about so many tokens did not go after all, and gives back what it had taken
    /// of the rates: a row that shares another one's reply costs no call and must not wait like one.
    pub fn withdraw(&mut self, tokens: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for (bucket, need) in [
            (&mut self.requests, 1.0),
            (&mut self.seen_requests, 1.0),
            (&mut self.tokens, tokens as f64),
            (&mut self.seen_tokens, tokens as f64),
        ] {
            if let Some(bucket) = bucket {
                bucket.level = (bucket.level + need).min(bucket.capacity);
            }
        }
    }

    /// Notes how a request landed. `jitter` is uniform in `0.0..1.0`. Returns a new pause, if one begins.
    pub fn land(&mut self, now: Duration, landing: Landing, jitter: f64) -> Option<Duration> {
        let was_full = self.in_flight >= self.allowed();
        self.in_flight = self.in_flight.saturating_sub(1);
        let before = self.paused_until;
        match landing {
            Landing::Served => {
                self.has_served = true;
                self.failures_in_a_row = 0;
                if was_full {
                    self.grow();
                }
            }
            Landing::Failed(failed) => self.failed(now, failed, jitter),
        }
        (self.paused_until > before.max(now)).then(|| self.paused_until.saturating_sub(now))
    }

    /// Corrects the token count of a request once the provider has counted.
    pub fn counted(&mut self, guessed: u64, counted: u64) {
        let beyond = counted.min(guessed.saturating_mul(MOST_OFF).max(MOST_UNGUESSED));
        for bucket in [&mut self.tokens, &mut self.seen_tokens].into_iter().flatten() {
            bucket.level += guessed as f64 - beyond as f64;
        }
    }

    /// Takes in what the headers of a reply say of the provider's limits. `number` is what
    /// [`Pace::start`] gave to its request and `took` how long it was under way.
    pub fn heard(&mut self, now: Duration, heard: Heard) {
        // The provider had not yet counted those that went after it, and has refilled since.
        let later = self.started.saturating_sub(heard.number) as f64;
        for (bucket, seen, not_counted) in [
            (&mut self.seen_requests, heard.requests, later),
            (&mut self.seen_tokens, heard.tokens, 0.0),
        ] {
            let Some(seen) = seen.filter(|seen| seen.per_minute >= 1.0) else { continue };
            let bucket = bucket.get_or_insert_with(|| Bucket::generous(now, seen.per_minute));
            bucket.heard(now, seen, not_counted - bucket.refill(heard.took));
        }
    }

    /// Returns how many may be in flight now.
    pub fn allowed(&self) -> u32 {
        (self.limit as u32).clamp(1, self.cap)
    }

    /// Says whether the provider seems to be away, so that single calls look whether it is back.
    pub fn is_away(&self) -> bool {
        self.failures_in_a_row >= AWAY_AFTER
    }

    /// Returns how many are in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn grow(&mut self) {
        self.limit += if self.doubling { 1.0 } else { 1.0 / self.limit };
        self.limit = self.limit.min(f64::from(self.cap));
    }

    fn failed(&mut self, now: Duration, failed: Failed, jitter: f64) {
        let Failed { class, asked, is_first_try } = failed;
        match class {
            FailureClass::RateLimited => {
                self.failures_in_a_row += 1;
                self.cut(now, 0.7);
                self.pause(now, asked.unwrap_or_else(|| self.growing_pause(jitter)));
            }
            FailureClass::Overloaded => {
                self.failures_in_a_row += u32::from(is_first_try);
                self.cut(now, 0.7);
                self.pause(now, asked.unwrap_or_else(|| self.growing_pause(jitter)));
            }
            FailureClass::Unreachable => self.may_be_away(now, asked, jitter),
            FailureClass::ServerError | FailureClass::Timeout | FailureClass::Connection => {
                if self.has_served && is_first_try {
                    self.may_be_away(now, asked, jitter);
                }
            }
            // These say nothing of the provider's capacity.
            FailureClass::QuotaExhausted
            | FailureClass::Unauthorized
            | FailureClass::Forbidden
            | FailureClass::ModelNotFound
            | FailureClass::EndpointNotFound
            | FailureClass::InvalidRequest
            | FailureClass::ContextTooLong
            | FailureClass::RequestTooLarge
            | FailureClass::ContentFiltered
            | FailureClass::Refused
            | FailureClass::SchemaUnsupported
            | FailureClass::InvalidAnswer
            | FailureClass::MalformedReply
            | FailureClass::RenderFailed
            | FailureClass::BatchExpired
            | FailureClass::BatchCancelled
            | FailureClass::BatchFailed
            | FailureClass::MissingFromBatch => self.failures_in_a_row = 0,
        }
    }

    fn may_be_away(&mut self, now: Duration, asked: Option<Duration>, jitter: f64) {
        self.failures_in_a_row += 1;
        if self.is_away() {
            self.limit = 1.0;
            self.doubling = true;
            self.pause(now, asked.unwrap_or_else(|| self.growing_pause(jitter)));
        }
    }

    fn cut(&mut self, now: Duration, factor: f64) {
        if self.last_cut.is_some_and(|last| now.saturating_sub(last) < ONE_CUT) {
            return;
        }
        self.last_cut = Some(now);
        self.doubling = false;
        self.limit = (self.limit * factor).max(1.0);
    }

    fn pause(&mut self, now: Duration, pause: Duration) {
        let until = now.saturating_add(pause.min(LONGEST_ASKED));
        self.paused_until = self.paused_until.max(until);
    }

    /// One second, doubling with every failure in a row beyond the first few, with full jitter on its upper half.
    fn growing_pause(&self, jitter: f64) -> Duration {
        let beyond = self.failures_in_a_row.saturating_sub(AWAY_AFTER).min(6);
        let ceiling = Duration::from_millis(500).saturating_mul(1 << beyond).min(LONGEST_PAUSE);
        ceiling.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// A token bucket that may go into debt for one request bigger than itself.
#[derive(Clone, Debug)]
struct Bucket {
    per_second: f64,
    capacity: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A rate that a person set: spread evenly, so that no minute holds more than it allows.
    fn strict(per_minute: f64) -> Self {
        let per_second = per_minute.max(1.0) / 60.0;
        let capacity = (per_second / 10.0).max(1.0);
        // Less what a full bucket adds to a minute, so that no minute holds more than the rate.
        let per_second = per_second - (capacity - 1.0) / 60.0;
        Self { per_second, capacity, level: capacity, at: Duration::ZERO }
    }

    /// A rate that headers told of: the provider's own bucket holds a minute of it.
    fn generous(now: Duration, per_minute: f64) -> Self {
        Self { per_second: per_minute / 60.0, capacity: per_minute, level: per_minute, at: now }
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.capacity);
        self.at = self.at.max(now);
    }

    fn ready_in(&mut self, now: Duration, need: f64) -> Duration {
        self.fill(now);
        let missing = need.min(self.capacity) - self.level;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((missing / self.per_second).clamp(0.001, 3600.0))
    }

    fn take(&mut self, now: Duration, need: f64) {
        self.fill(now);
        self.level -= need;
    }

    fn refill(&self, passed: Duration) -> f64 {
        passed.as_secs_f64() * self.per_second
    }

    fn heard(&mut self, now: Duration, seen: LimitSeen, not_counted: f64) {
        self.fill(now);
        self.per_second = seen.per_minute / 60.0;
        self.capacity = seen.per_minute;
        self.level = self.level.min(seen.remaining - not_counted).max(-self.capacity);
    }
}

#[cfg(test)]
mod tests;
