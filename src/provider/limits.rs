//! What a reply says about pace: how much is left of each rate limit, and how long to wait.
//!
//! All of it is advice from a stranger: what cannot be read is as if it had not been sent, no wait
//! is longer than [`MAX_WAIT`], and nothing here fails. Forms as OpenAI documents them, and the
//! ones that compatible servers were seen to send.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::ReplyHeaders;
use super::headers::WindowText;
use crate::domain::UnixMs;

/// The longest wait that is taken from a reply; a longer one is cut to this.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// What a reply's headers say about pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateHeaders {
    /// Requests, mostly counted a minute.
    pub requests: Window,
    /// Tokens, mostly counted a minute.
    pub tokens: Window,
    /// How long to wait before the next try, one hour at most.
    pub retry_after: Option<Duration>,
    /// The server's own word on whether trying again makes sense.
    pub should_retry: Option<bool>,
}

/// One rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How many the window allows.
    pub limit: Option<u64>,
    /// How many are left in it.
    pub remaining: Option<u64>,
    /// In what time it is full again, one hour at most.
    pub reset: Option<Duration>,
}

impl RateHeaders {
    /// Reads the headers of a reply that arrived at `now`.
    pub fn read(headers: &ReplyHeaders, now: UnixMs) -> Self {
        let milliseconds = headers.retry_after_ms.as_deref().and_then(|text| decimal(text, MILLI));
        Self {
            requests: Window::read(&headers.requests, now),
            tokens: Window::read(&headers.tokens, now),
            retry_after: milliseconds
                .map(bounded)
                .or_else(|| wait(headers.retry_after.as_deref(), now)),
            should_retry: headers.should_retry.as_deref().and_then(flag),
        }
    }
}

impl Window {
    fn read(text: &WindowText, now: UnixMs) -> Self {
        let count = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
        Self {
            limit: count(&text.limit),
            remaining: count(&text.remaining),
            reset: wait(text.reset.as_deref(), now),
        }
    }
}

/// Finds the wait in a sentence such as `Please try again in 41.724s`, one hour at most.
pub fn wait_in_message(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let (_, after) = ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(|phrase| lower.split_once(phrase))?;
    let mut words = after.split_ascii_whitespace();
    let amount = words.next()?.trim_end_matches(['.', ',', ';', ')', '!']);
    if let Some(nanos) = go_duration(amount) {
        return Some(bounded(nanos));
    }
    let unit = words.next().map_or("s", |word| word.trim_end_matches(['.', ',', ';', ')', '!']));
    decimal(amount, spelled_unit(unit)?).map(bounded)
}

const NANO: u128 = 1;
const MICRO: u128 = 1_000 * NANO;
const MILLI: u128 = 1_000 * MICRO;
const SECOND: u128 = 1_000 * MILLI;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;

/// Reads a Go duration (`6m0s`), plain seconds, a Unix time (in seconds or milliseconds), or a date.
fn wait(text: Option<&str>, now: UnixMs) -> Option<Duration> {
    let text = text?;
    if let Some(nanos) = decimal(text, SECOND) {
        return Some(seconds_or_unix_time(nanos, now));
    }
    if let Some(nanos) = go_duration(text) {
        return Some(bounded(nanos));
    }
    let date = DateTimeParser::new().parse_timestamp(text).or_else(|_| text.parse::<Timestamp>());
    let date = date.ok()?;
    Some(UnixMs(date.as_millisecond()).since(now).min(MAX_WAIT))
}

/// OpenRouter and others send the moment instead of the time left; no wait is decades long.
fn seconds_or_unix_time(nanos: u128, now: UnixMs) -> Duration {
    const YEAR_2001_S: u128 = 1_000_000_000;
    let seconds = nanos / SECOND;
    let unix_ms = match seconds {
        s if s < YEAR_2001_S => return bounded(nanos),
        s if s < YEAR_2001_S * 1_000 => s * 1_000,
        ms => ms,
    };
    UnixMs(i64::try_from(unix_ms).unwrap_or(i64::MAX)).since(now).min(MAX_WAIT)
}

fn bounded(nanos: u128) -> Duration {
    u64::try_from(nanos).map_or(MAX_WAIT, Duration::from_nanos).min(MAX_WAIT)
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Reads what Go's `time.Duration` prints: `1h2m3.5s`, `12ms`, `850µs`, `0s`.
fn go_duration(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        total = total.saturating_add(decimal(amount, go_unit(unit)?)?);
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

fn go_unit(unit: &str) -> Option<u128> {
    match unit {
        "h" => Some(HOUR),
        "m" => Some(MINUTE),
        "s" => Some(SECOND),
        "ms" => Some(MILLI),
        // The sign is U+00B5 (micro) or U+03BC (mu).
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(MICRO),
        "ns" => Some(NANO),
        _ => None,
    }
}

fn spelled_unit(unit: &str) -> Option<u128> {
    match unit {
        "milliseconds" | "millisecond" => Some(MILLI),
        "seconds" | "second" | "secs" | "sec" => Some(SECOND),
        "minutes" | "minute" | "mins" | "min" => Some(MINUTE),
        "hours" | "hour" => Some(HOUR),
        other => go_unit(other),
    }
}

/// Reads `12`, `12.5` or `.5` of a unit of so many nanoseconds, saturating; no sign, no exponent.
fn decimal(text: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let value = |part: &str| {
        part.bytes().fold(0_u128, |sum, byte| {
            sum.saturating_mul(10).saturating_add(u128::from(byte - b'0'))
        })
    };
    let fraction = &fraction[..fraction.len().min(9)];
    let part = value(fraction) * unit / 10_u128.pow(fraction.len() as u32);
    Some(value(whole).saturating_mul(unit).saturating_add(part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-23T12:00:00Z.
    const NOW: UnixMs = UnixMs(1_795_435_200_000);

    fn reset(text: &str) -> Option<Duration> {
        wait(Some(text), NOW)
    }

    fn retry(after: Option<&str>, ms: Option<&str>) -> Option<Duration> {
        let headers = ReplyHeaders {
            retry_after: after.map(str::to_owned),
            retry_after_ms: ms.map(str::to_owned),
            ..ReplyHeaders::default()
        };
        RateHeaders::read(&headers, NOW).retry_after
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn go_durations_and_plain_seconds_are_read() {
        assert_eq!(reset("1s"), Some(ms(1_000)));
        assert_eq!(reset("6m0s"), Some(ms(360_000)));
        assert_eq!(reset("12ms"), Some(ms(12)));
        assert_eq!(reset("1m30.5s"), Some(ms(90_500)));
        assert_eq!(reset("2m59.56s"), Some(ms(179_560)));
        assert_eq!(reset("0s"), Some(ms(0)));
        assert_eq!(reset("850\u{b5}s"), Some(Duration::from_micros(850)));
        assert_eq!(reset("17"), Some(ms(17_000)));
        assert_eq!(reset("0.25"), Some(ms(250)));
    }

    #[test]
    fn garbage_is_as_if_it_were_not_there() {
        for text in ["", ".", "-1", "-1s", "1e3", "NaN", "soon", "5x", "s", "1.2.3s", "1s ", "١s"]
        {
            assert_eq!(reset(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_an_hour() {
        for text in
            ["24h0m0s", "999999", "99999999999999999999999999999999999999999", "9999999999h"]
        {
            assert_eq!(reset(text), Some(MAX_WAIT), "{text:?}");
        }
        assert_eq!(retry(None, Some("99999999999999999999")), Some(MAX_WAIT));
    }

    #[test]
    fn a_moment_is_a_wait_from_now() {
        assert_eq!(reset("1795435205"), Some(ms(5_000)));
        assert_eq!(reset("1795435205250"), Some(ms(5_250)));
        assert_eq!(reset("1000000001"), Some(ms(0)));
        assert_eq!(retry(Some("Mon, 23 Nov 2026 12:00:30 GMT"), None), Some(ms(30_000)));
        assert_eq!(retry(Some("Mon, 23 Nov 2026 11:00:00 GMT"), None), Some(ms(0)));
        assert_eq!(retry(Some("Wed, 23 Nov 2033 11:00:00 GMT"), None), Some(MAX_WAIT));
        assert_eq!(retry(Some("2026-11-23"), None), None);
        assert_eq!(reset("2026-11-23T12:00:02Z"), Some(ms(2_000)));
        assert_eq!(reset("2026-11-23T11:59:58+00:00"), Some(ms(0)));
    }

    #[test]
    fn milliseconds_win_over_seconds() {
        assert_eq!(retry(Some("2"), Some("250")), Some(ms(250)));
        assert_eq!(retry(Some("2"), Some("later")), Some(ms(2_000)));
        assert_eq!(retry(Some("0.5"), None), Some(ms(500)));
        assert_eq!(retry(None, None), None);
    }

    #[test]
    fn windows_and_the_servers_own_word_are_read() {
        let text = |text: &str| Some(text.to_owned());
        let headers = ReplyHeaders {
            requests: WindowText { limit: text("60"), remaining: text("59"), reset: text("1s") },
            tokens: WindowText { limit: text("150000"), remaining: text("-3"), reset: None },
            should_retry: text("false"),
            ..ReplyHeaders::default()
        };
        let read = RateHeaders::read(&headers, NOW);
        assert_eq!(
            read.requests,
            Window { limit: Some(60), remaining: Some(59), reset: Some(ms(1_000)) }
        );
        assert_eq!(read.tokens, Window { limit: Some(150_000), remaining: None, reset: None });
        assert_eq!(read.should_retry, Some(false));
    }

    #[test]
    fn a_wait_in_a_sentence_is_found() {
        let openai = "Rate limit reached for gpt-4o. Please try again in 41.724s. Visit https://x.";
        assert_eq!(wait_in_message(openai), Some(ms(41_724)));
        assert_eq!(wait_in_message("Please try again in 20ms."), Some(ms(20)));
        assert_eq!(wait_in_message("please Try Again In 6m0s"), Some(ms(360_000)));
        assert_eq!(wait_in_message("Please retry after 10 seconds."), Some(ms(10_000)));
        assert_eq!(wait_in_message("Please retry in 41.2s."), Some(ms(41_200)));
        assert_eq!(wait_in_message("try again in 2 minutes"), Some(ms(120_000)));
        assert_eq!(wait_in_message("retry after 3"), Some(ms(3_000)));
        assert_eq!(wait_in_message("try again in a moment"), None);
        assert_eq!(wait_in_message("try again in "), None);
        assert_eq!(wait_in_message("slow down"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_every_wait_is_bounded(text in "\\PC{0,40}", number in "[0-9.]{0,50}[hmsnµu ]{0,3}") {
            for text in [text, number] {
                prop_assert!(reset(&text).is_none_or(|wait| wait <= MAX_WAIT));
                let sentence = format!("try again in {text}");
                prop_assert!(wait_in_message(&sentence).is_none_or(|wait| wait <= MAX_WAIT));
            }
        }
    }
}
