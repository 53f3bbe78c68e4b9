//! Requests and tokens per minute, as OpenAI meters them: one token bucket each.
//!
//! A bucket holds a minute's worth and fills evenly. A request takes one from the first and, from
//! the second, the larger of its output limit and a quarter of its characters. A request that is
//! turned away takes nothing; one that fails later has been counted, as at OpenAI. The limits are
//! the server's, not each model's.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

/// What is left of a minute's requests and tokens.
#[derive(Debug)]
pub(super) struct Limits {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Excess {
    /// `requests per min (RPM)` or `tokens per min (TPM)`.
    pub(super) meter: &'static str,
    /// What OpenAI calls the type of this error: `requests` or `tokens`.
    pub(super) kind: &'static str,
    /// How much a minute allows.
    pub(super) limit: u32,
    /// How much of that is taken.
    pub(super) used: u32,
    /// How much was asked for.
    pub(super) requested: u64,
    /// When it would be let through; `None` if never, being larger than the limit itself.
    pub(super) wait: Option<Duration>,
}

impl Limits {
    /// Makes full buckets.
    pub(super) fn new(rpm: Option<u32>, tpm: Option<u32>, now: Instant) -> Self {
        Self {
            requests: rpm.map(|limit| Bucket::full(limit, now)),
            tokens: tpm.map(|limit| Bucket::full(limit, now)),
        }
    }

    /// Takes one request of `tokens` from both buckets, or nothing from either.
    pub(super) fn take(&mut self, tokens: u64, now: Instant) -> Result<(), Excess> {
        let excess = [(&mut self.requests, 1), (&mut self.tokens, tokens)]
            .into_iter()
            .zip([("requests per min (RPM)", "requests"), ("tokens per min (TPM)", "tokens")])
            .filter_map(|((bucket, requested), (meter, kind))| {
                let bucket = bucket.as_mut()?;
                bucket.fill(now);
                let (limit, used) = (bucket.limit, bucket.used());
                let wait = bucket.wait_for(requested)?;
                Some(Excess { meter, kind, limit, used, requested, wait })
            })
            // Of two that are short, the one that lasts longer is told; for ever is longest.
            .max_by_key(|excess| excess.wait.unwrap_or(Duration::MAX));
        if let Some(excess) = excess {
            return Err(excess);
        }
        for (bucket, amount) in [(&mut self.requests, 1), (&mut self.tokens, tokens)] {
            if let Some(bucket) = bucket {
                bucket.available -= amount as f64;
            }
        }
        Ok(())
    }

    /// Writes `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` for the limits there are.
    pub(super) fn write_headers(&mut self, headers: &mut HeaderMap, now: Instant) {
        const REQUESTS: [&str; 3] = [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ];
        const TOKENS: [&str; 3] = [
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ];
        for (bucket, names) in [(&mut self.requests, REQUESTS), (&mut self.tokens, TOKENS)] {
            let Some(bucket) = bucket else { continue };
            bucket.fill(now);
            let values = [
                bucket.limit.to_string(),
                (bucket.available as u64).to_string(),
                go_duration(bucket.time_to_full()),
            ];
            for (name, value) in names.into_iter().zip(values) {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(name, value);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Bucket {
    limit: u32,
    available: f64,
    filled_at: Instant,
}

impl Bucket {
    fn full(limit: u32, now: Instant) -> Self {
        Self { limit, available: f64::from(limit), filled_at: now }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.limit) / 60.0
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.available = (self.available + passed * self.per_second()).min(f64::from(self.limit));
        self.filled_at = self.filled_at.max(now);
    }

    fn used(&self) -> u32 {
        (f64::from(self.limit) - self.available).ceil() as u32
    }

    /// Returns `None` if there is enough; otherwise how long until there is, if ever.
    #[expect(clippy::option_option, reason = "enough, not yet and never are three things")]
    fn wait_for(&self, amount: u64) -> Option<Option<Duration>> {
        // Times are rounded to whole milliseconds, so a caller who waits as told may come a hair early.
        let missing = amount as f64 - self.available;
        if missing <= self.per_second() * 0.001 {
            return None;
        }
        let never = amount > u64::from(self.limit);
        Some((!never).then(|| whole_millis(missing / self.per_second())))
    }

    fn time_to_full(&self) -> Duration {
        let missing = f64::from(self.limit) - self.available;
        if missing <= 0.0 { Duration::ZERO } else { whole_millis(missing / self.per_second()) }
    }
}

fn whole_millis(seconds: f64) -> Duration {
    // Less a millionth, so that 1.0000000002 s is told as 1 s.
    Duration::from_millis((seconds * 1000.0 - 1e-6).ceil().max(0.0) as u64)
}

/// Writes a duration as Go does, to the millisecond: `0s`, `12ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, seconds) = (millis / 60_000, seconds_text(millis % 60_000));
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn seconds_text(millis: u128) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: f64) -> Duration {
        Duration::from_secs_f64(count)
    }

    #[test]
    fn a_minute_holds_its_requests_and_fills_evenly() {
        let start = Instant::now();
        let mut limits = Limits::new(Some(60), None, start);
        for _ in 0..60 {
            assert_eq!(limits.take(1, start), Ok(()));
        }
        let excess = limits.take(1, start).unwrap_err();
        assert_eq!((excess.limit, excess.used, excess.requested), (60, 60, 1));
        assert_eq!(excess.wait, Some(seconds(1.0)));
        assert!(limits.take(1, start + seconds(0.9)).is_err());
        assert!(limits.take(1, start + seconds(1.0)).is_ok());
        assert!(limits.take(1, start + seconds(1.5)).is_err());
    }

    #[test]
    fn whoever_waits_as_told_is_let_through() {
        for (tpm, amount) in [(1_000, 700), (150_000, 99_999), (7, 5), (333, 332)] {
            let start = Instant::now();
            let mut limits = Limits::new(None, Some(tpm), start);
            limits.take(amount, start).unwrap();
            let excess = limits.take(amount, start).unwrap_err();
            let wait = excess.wait.unwrap();
            assert!(limits.take(amount, start + wait).is_ok(), "{tpm} {amount} {wait:?}");
        }
    }

    #[test]
    fn a_request_that_is_turned_away_takes_nothing() {
        let start = Instant::now();
        let mut limits = Limits::new(Some(10), Some(100), start);
        assert_eq!(limits.take(101, start).unwrap_err().wait, None);
        let mut headers = HeaderMap::new();
        limits.write_headers(&mut headers, start);
        assert_eq!(headers["x-ratelimit-remaining-requests"], "10");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "100");
    }

    #[test]
    fn headers_tell_what_is_left_and_are_absent_without_limits() {
        let start = Instant::now();
        let mut limits = Limits::new(Some(60), Some(150_000), start);
        limits.take(15_000, start).unwrap();
        let mut headers = HeaderMap::new();
        limits.write_headers(&mut headers, start);
        let told = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(told("x-ratelimit-limit-requests"), "60");
        assert_eq!(told("x-ratelimit-remaining-requests"), "59");
        assert_eq!(told("x-ratelimit-reset-requests"), "1s");
        assert_eq!(told("x-ratelimit-remaining-tokens"), "135000");
        assert_eq!(told("x-ratelimit-reset-tokens"), "6s");
        let mut none = HeaderMap::new();
        Limits::new(None, None, start).write_headers(&mut none, start);
        assert!(none.is_empty());
    }

    #[test]
    fn durations_read_as_in_go() {
        let told = |millis| go_duration(Duration::from_millis(millis));
        assert_eq!(told(0), "0s");
        assert_eq!(told(12), "12ms");
        assert_eq!(told(1_000), "1s");
        assert_eq!(told(41_724), "41.724s");
        assert_eq!(told(360_000), "6m0s");
        assert_eq!(told(3_661_500), "1h1m1.5s");
    }
}
