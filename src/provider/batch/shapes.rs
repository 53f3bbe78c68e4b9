//! Values that the servers of these APIs write in different ways.

use crate::domain::UnixMs;
use crate::provider::decode::loose::Shape;

/// An id. Null, empty and absent are alike: none.
pub(super) struct Id(pub(super) String);

impl Shape<'_> for Id {
    fn text(text: &str) -> Option<Self> {
        const MAX_BYTES: usize = 1_000;
        let id = text.trim();
        (!id.is_empty() && id.len() <= MAX_BYTES).then(|| Self(id.to_owned()))
    }

    fn number(number: f64) -> Option<Self> {
        const EXACT: f64 = 9_007_199_254_740_991.0;
        let is_whole = number.fract() == 0.0 && (0.0..=EXACT).contains(&number);
        is_whole.then(|| Self(number.to_string()))
    }
}

#[derive(PartialEq)]
pub(super) struct Flag(pub(super) bool);

impl Shape<'_> for Flag {
    fn flag(flag: bool) -> Option<Self> {
        Some(Self(flag))
    }

    fn text(text: &str) -> Option<Self> {
        text.to_ascii_lowercase().parse().ok().map(Self)
    }
}

/// A moment: Unix seconds, as a number or as text, or RFC 3339, in UTC where no zone is given.
pub(super) struct Moment(pub(super) UnixMs);

impl Shape<'_> for Moment {
    fn text(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Self::number(number);
        }
        let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let local: jiff::civil::DateTime = text.parse().ok()?;
            local.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
        })?;
        Some(Self(UnixMs(at.as_millisecond())))
    }

    /// Zero is how some write "none"; what is too large for seconds is milliseconds.
    fn number(number: f64) -> Option<Self> {
        const YEAR_5138_S: f64 = 1e11;
        let ms = if number < YEAR_5138_S { number * 1_000.0 } else { number };
        (1.0..YEAR_5138_S * 1_000.0).contains(&ms).then(|| Self(UnixMs(ms.round() as i64)))
    }
}
