//! Words and numbers for people.

use std::time::Duration;

use crate::domain::UnixMs;

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
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| format!("{at:.3}"))
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

/// Cuts a text to `width` characters, for one line of a screen.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let flat: String =
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
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
}
