//! Words and numbers for people.

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, Zoned};

use crate::domain::{UnixMs, Usage};

/// Returns `1 row`, `2,000 rows`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = match one {
        "reply" => "replies",
        "entry" => "entries",
        "batch" => "batches",
        _ => return format!("{} {one}{}", thousands(number), if number == 1 { "" } else { "s" }),
    };
    format!("{} {}", thousands(number), if number == 1 { one } else { plural })
}

/// Returns `it` for one thing, else `them`.
pub(crate) fn them(number: u64) -> &'static str {
    if number == 1 { "it" } else { "them" }
}

/// Returns a number with commas.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Says what was counted; what was put into the cache only where there is any, for few providers tell.
pub(crate) fn tokens(usage: Usage) -> String {
    let written = match usage.cache_write {
        0 => String::new(),
        written => format!(", {} put into the cache", thousands(written)),
    };
    format!(
        "{} in ({} cached{written}), {} out ({} reasoning)",
        thousands(usage.input),
        thousands(usage.cached),
        thousands(usage.output),
        thousands(usage.reasoning)
    )
}

/// Returns `812 bytes`, `1.4 MB`, in decimal units, as disks are sold.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => count(bytes, "byte"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Returns `450 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Returns a moment as RFC 3339 in UTC, to the millisecond.
pub(crate) fn moment(at: UnixMs) -> String {
    Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |at| format!("{at:.3}"))
}

/// Reads `1s`, `5m`, `2h`, `500ms` or `90` (seconds).
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it as 30s, 5m or 2h");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

/// Reads a moment that lies ahead of `now`: `08:00` (the next one), `2h` from now, or a timestamp. Where
/// it names no zone, it is in that of `now`.
pub(crate) fn parse_time(text: &str, now: &Zoned) -> Result<UnixMs, String> {
    let text = text.trim();
    if text.parse::<u64>().is_ok() {
        return Err(format!(
            "{text:?} has no unit; write {text}m, {text}h or a time of day such as 08:00"
        ));
    }
    let at = if text.contains(':') {
        parse_clock(text).and_then(|time| next_at(time, now)).or_else(|| parse_moment(text, now))
    } else {
        let ahead = parse_duration(text).ok();
        ahead.map(|ahead| unix_ms(now.timestamp()).plus(ahead))
    };
    match at {
        None => Err(format!("{text:?} is no time; write it as 08:00, 2h or 2026-11-24T08:00")),
        Some(at) if at <= unix_ms(now.timestamp()) => {
            Err(format!("{text:?} has passed; it is {} now", now.strftime("%F %T%:z")))
        }
        Some(at) => Ok(at),
    }
}

/// Reads `8:00`, `08:00` or `08:00:30`.
fn parse_clock(text: &str) -> Option<Time> {
    let number = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        let is_number =
            digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<i8>().ok()).flatten()
    };
    let (hour, rest) = text.split_once(':')?;
    let (minute, second) = rest.split_once(':').unwrap_or((rest, "00"));
    Time::new(number(hour, 1..=2)?, number(minute, 2..=2)?, number(second, 2..=2)?, 0).ok()
}

/// Returns the next moment after `now` at which clocks in its zone show `time`.
fn next_at(time: Time, now: &Zoned) -> Option<UnixMs> {
    let (today, tomorrow) = (now.date(), now.date().tomorrow().ok()?);
    let mut days = [today, tomorrow].into_iter().map(|day| local(day.to_datetime(time), now));
    days.find(|at| at.is_some_and(|at| at > now.timestamp())).flatten().map(unix_ms)
}

/// Reads a timestamp, with an offset or a zone, or without one.
fn parse_moment(text: &str, now: &Zoned) -> Option<UnixMs> {
    let at = if text.contains('[') {
        text.parse::<Zoned>().ok().map(|at| at.timestamp())
    } else {
        let at = text.parse::<Timestamp>().ok();
        at.or_else(|| text.parse::<DateTime>().ok().and_then(|at| local(at, now)))
    };
    at.map(unix_ms)
}

/// Returns when clocks in the zone of `now` show `at`. An hour that clocks skip is put as much later; of one
/// that they show twice, it is the first that lies ahead.
fn local(at: DateTime, now: &Zoned) -> Option<Timestamp> {
    let at = now.time_zone().to_ambiguous_timestamp(at);
    let first = at.compatible().ok()?;
    if first > now.timestamp() { Some(first) } else { at.later().ok() }
}

fn unix_ms(at: Timestamp) -> UnixMs {
    UnixMs(at.as_millisecond())
}

/// Returns the reader of a whole number that is at least `least` and at most `most`.
pub(crate) fn whole<N: TryFrom<u64>>(
    least: u64,
    most: Option<u64>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static {
    move |text| {
        let read = text.parse::<u64>().ok();
        let in_range = read.filter(|read| (least..=most.unwrap_or(u64::MAX)).contains(read));
        in_range.and_then(|read| N::try_from(read).ok()).ok_or_else(|| match most {
            Some(most) => format!("a whole number from {least} to {} is needed", thousands(most)),
            None => format!("a whole number is needed, {least} or more"),
        })
    }
}

/// Reads a duration that is more than nothing.
pub(crate) fn parse_some_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|duration| match duration.is_zero() {
        true => Err("it has to be more than nothing".to_owned()),
        false => Ok(duration),
    })
}

/// Returns a character of somebody else's text as a terminal may have it: none moves the cursor, and none turns the text
/// around it.
pub(crate) fn shown(char: char) -> char {
    let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if char.is_control() || turns { ' ' } else { char }
}

/// Cuts a text to `width` characters, for one line of a screen.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let flat: String = text.chars().map(shown).collect();
    if flat.chars().count() <= width {
        return flat;
    }
    flat.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_plurals_are_right() {
        assert_eq!(count(0, "row"), "0 rows");
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(1_234_567, "row"), "1,234,567 rows");
        assert_eq!(count(2, "reply"), "2 replies");
        assert_eq!(thousands(100), "100");
        assert_eq!(thousands(1000), "1,000");
    }

    #[test]
    fn a_number_out_of_range_is_told_the_range() {
        assert_eq!(whole::<u32>(1, None)("7"), Ok(7));
        let wrong = Err("a whole number is needed, 1 or more".to_owned());
        for text in ["0", "-1", "x", "1.5", "", "4294967296"] {
            assert_eq!(whole::<u32>(1, None)(text), wrong, "{text}");
        }
        let wrong = Err("a whole number from 1 to 10,000 is needed".to_owned());
        assert_eq!(whole::<u32>(1, Some(10_000))("10001"), wrong);
    }

    #[test]
    fn durations_are_read_and_written() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("-3s").is_err());
        assert!(parse_some_duration("0").is_err());
        assert_eq!(duration(Duration::from_millis(12)), "12 ms");
        assert_eq!(duration(Duration::from_mins(125)), "2 h 5 min");
    }

    const SEOUL: &str = "KST-9";
    const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";

    fn zoned(local: &str, zone: &str) -> Zoned {
        let zone = jiff::tz::TimeZone::posix(zone).unwrap();
        local.parse::<DateTime>().unwrap().to_zoned(zone).unwrap()
    }

    /// Reads a time at a local moment; returns what it comes to, in UTC to the second.
    fn time(text: &str, local: &str, zone: &str) -> Result<String, String> {
        let at = parse_time(text, &zoned(local, zone))?;
        Ok(Timestamp::from_millisecond(at.0).unwrap().strftime("%F %T").to_string())
    }

    fn times(table: &[(&str, &str, &str)], zone: &str) {
        for (text, now, expected) in table {
            assert_eq!(
                time(text, now, zone).as_deref(),
                Ok(*expected),
                "{text} at {now} in {zone}"
            );
        }
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let table = [
            ("08:00", "2026-11-23T22:15", "2026-11-23 23:00:00"),
            ("8:00", "2026-11-23T22:15", "2026-11-23 23:00:00"),
            (" 08:00 ", "2026-11-23T22:15", "2026-11-23 23:00:00"),
            ("08:00:30", "2026-11-24T07:59:59.999", "2026-11-23 23:00:30"),
            ("08:00", "2026-11-24T07:59:59.9999", "2026-11-23 23:00:00"),
            ("08:00", "2026-11-24T08:00", "2026-11-24 23:00:00"),
            ("08:00", "2026-11-24T08:00:00.001", "2026-11-24 23:00:00"),
            ("00:00", "2026-12-31T23:59", "2026-12-31 15:00:00"),
        ];
        times(&table, SEOUL);
    }

    #[test]
    fn a_duration_counts_from_now() {
        let table = [
            ("2h", "2026-11-24T23:00", "2026-11-24 16:00:00"),
            ("90m", "2026-11-24T09:00", "2026-11-24 01:30:00"),
            ("30s", "2026-11-24T09:00", "2026-11-24 00:00:30"),
            ("1h 30m", "2026-11-24T09:00", "2026-11-24 01:30:00"),
        ];
        times(&table, SEOUL);
        // Two hours by the clock on the wall would be one.
        times(&[("2h", "2026-03-08T01:30", "2026-03-08 08:30:00")], NEW_YORK);
    }

    #[test]
    fn a_timestamp_is_local_unless_it_names_an_offset() {
        let now = "2026-11-23T22:15";
        let table = [
            ("2026-11-24T08:00", now, "2026-11-23 23:00:00"),
            ("2026-11-24 08:00", now, "2026-11-23 23:00:00"),
            ("2026-11-24T08:00:05", now, "2026-11-23 23:00:05"),
            ("2026-11-24T08:00:00Z", now, "2026-11-24 08:00:00"),
            ("2026-11-24T08:00:00-05:00", now, "2026-11-24 13:00:00"),
            ("2026-11-24 08:00+09:00", now, "2026-11-23 23:00:00"),
            ("2026-11-24T08:00[UTC]", now, "2026-11-24 08:00:00"),
        ];
        times(&table, SEOUL);
    }

    #[test]
    fn clocks_that_are_put_forward_or_back_do_no_harm() {
        let table = [
            // There is no 02:30 on 2026-03-08.
            ("02:30", "2026-03-08T01:00", "2026-03-08 07:30:00"),
            ("2026-03-08T02:30", "2026-03-08T01:00", "2026-03-08 07:30:00"),
            ("02:30", "2026-03-08T04:00", "2026-03-09 06:30:00"),
            ("08:00", "2026-03-07T22:00", "2026-03-08 12:00:00"),
            // 01:30 comes twice on 2026-11-01.
            ("01:30", "2026-11-01T00:30", "2026-11-01 05:30:00"),
            ("01:30", "2026-11-01T01:45", "2026-11-01 06:30:00"),
            ("2026-11-01T01:30", "2026-11-01T01:45", "2026-11-01 06:30:00"),
            ("01:30", "2026-11-01T02:00", "2026-11-02 06:30:00"),
        ];
        times(&table, NEW_YORK);
    }

    #[test]
    fn a_time_that_is_none_or_has_passed_is_refused_with_what_to_write() {
        let refused = |text| time(text, "2026-11-23T22:15:04", SEOUL).unwrap_err();
        assert_eq!(refused("8"), "\"8\" has no unit; write 8m, 8h or a time of day such as 08:00");
        for text in ["2026-11-23T22:15:04", "2026-11-23 08:00", "2026-11-23T13:15:03Z", "0s"] {
            let words = format!("{text:?} has passed; it is 2026-11-23 22:15:04+09:00 now");
            assert_eq!(refused(text), words);
        }
        let none = [
            "",
            "soon",
            "tomorrow",
            "24:00",
            "25:00:00",
            "08:60",
            "08:0",
            "008:00",
            "+8:00",
            "8:00:",
            "08:00 pm",
            "-2h",
            "2026-11-25",
            "2026-13-01T08:00",
            "2026-11-24T08:00+99:00",
            "::",
            "2h:",
        ];
        for text in none {
            let words = format!("{text:?} is no time; write it as 08:00, 2h or 2026-11-24T08:00");
            assert_eq!(refused(text), words);
        }
    }
}
