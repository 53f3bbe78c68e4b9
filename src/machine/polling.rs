//! How long to wait before the next look at a batch.
//!
//! A batch may be done after a minute or after a day. So looks are close together at first, and after each
//! change, and then as far apart as a person allows. Many batches that were created together must not be
//! looked at together for ever: each pause is moved a little by chance.

use std::time::Duration;

/// The shortest first pause, where a person's longest one allows it.
const SHORTEST: Duration = Duration::from_millis(20);
/// How far failing looks come apart, where a person's longest pause is shorter.
const AWAY: Duration = Duration::from_mins(1);
/// The longest that a provider's own word (`retry-after`) is obeyed, where a person's longest pause is shorter.
const LONGEST_ASKED: Duration = Duration::from_mins(10);
/// What share of a pause chance takes away or adds at most.
const SPREAD: f64 = 0.2;

/// Returns the pause before a look: a tenth of `longest` at first, growing by half each time up to `longest`.
///
/// `look` counts the looks since something changed, from 0. `longest` is `--poll`. `jitter` is uniform in
/// `0.0..1.0` and moves the pause by up to a fifth either way.
pub fn pause(look: u32, longest: Duration, jitter: f64) -> Duration {
    spread(grown(first(longest), 1.5, look, longest), jitter)
}

/// Returns the pause before a look that follows `failures` failed ones in a row, from 1: doubling from
/// the first pause up to a minute, or `longest` if that is more, and no shorter than what the provider
/// asked for.
pub fn pause_after_failure(
    failures: u32,
    longest: Duration,
    asked: Option<Duration>,
    jitter: f64,
) -> Duration {
    let grown = grown(first(longest), 2.0, failures.saturating_sub(1), longest.max(AWAY));
    let asked = asked.unwrap_or_default().min(longest.max(LONGEST_ASKED));
    // On top of it: those who were asked to wait alike must not come back alike.
    let asked = times(asked, 1.0 + SPREAD * jitter.clamp(0.0, 1.0)).max(asked);
    spread(grown, jitter).max(asked)
}

fn first(longest: Duration) -> Duration {
    (longest / 10).max(SHORTEST).min(longest)
}

fn grown(first: Duration, factor: f64, steps: u32, longest: Duration) -> Duration {
    // More steps than these lead past any pause.
    times(first, factor.powi(steps.min(128) as i32)).min(longest)
}

fn spread(pause: Duration, jitter: f64) -> Duration {
    let factor = 1.0 - SPREAD + 2.0 * SPREAD * jitter.clamp(0.0, 1.0);
    times(pause, factor).max(Duration::from_millis(1))
}

/// Multiplies, and stays at the longest duration there is where [`Duration::mul_f64`] panics.
fn times(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDDLE: f64 = 0.5;

    fn millis(pauses: impl Iterator<Item = Duration>) -> Vec<u128> {
        pauses.map(|pause| (pause + Duration::from_micros(500)).as_millis()).collect()
    }

    #[test]
    fn pauses_grow_by_half_up_to_the_longest() {
        let at = |longest, looks| {
            millis((0..looks).map(move |look| pause(look, Duration::from_millis(longest), MIDDLE)))
        };
        assert_eq!(at(60_000, 8), [6_000, 9_000, 13_500, 20_250, 30_375, 45_563, 60_000, 60_000]);
        assert_eq!(at(50, 5), [20, 30, 45, 50, 50]);
        assert_eq!(at(5, 2), [5, 5]);
    }

    #[test]
    fn pauses_after_failures_double_up_to_a_minute_or_the_longest() {
        let at = |longest, failures| {
            let longest = Duration::from_secs(longest);
            millis(
                (1..=failures).map(move |count| pause_after_failure(count, longest, None, MIDDLE)),
            )
        };
        assert_eq!(at(20, 6), [2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
        assert_eq!(at(600, 5), [60_000, 120_000, 240_000, 480_000, 600_000]);
    }

    #[test]
    fn what_the_provider_asks_is_obeyed_within_reason() {
        let after = |asked, jitter| {
            let asked = Some(Duration::from_secs(asked));
            let pause = pause_after_failure(1, Duration::from_secs(10), asked, jitter);
            millis([pause].into_iter())[0]
        };
        assert_eq!(after(100, 0.0), 100_000);
        assert_eq!(after(100, 1.0), 120_000);
        assert_eq!(after(0, MIDDLE), 1_000);
        assert_eq!(after(1_000_000, 0.0), 600_000);
    }

    /// The oracle takes one step after the other, in whole nanoseconds; it may be off by rounding.
    fn oracle(first: u128, steps: u32, grow: impl Fn(u128) -> u128, longest: u128) -> u128 {
        let mut pause = first;
        for _ in 0..steps {
            pause = grow(pause).min(longest);
        }
        pause.min(longest)
    }

    fn is_near(pause: Duration, nanos: u128) -> bool {
        pause.as_nanos().abs_diff(nanos) <= 1_000 + nanos / 1_000_000_000
    }

    proptest! {
        #[test]
        fn every_pause_is_the_oracles(
            look in 0u32..200,
            longest_ms in 1u64..100_000_000,
            jitter_percent in 0u32..100,
        ) {
            let longest = Duration::from_millis(longest_ms);
            let (nanos, jitter) = (longest.as_nanos(), f64::from(jitter_percent) / 100.0);
            let first = if longest_ms < 20 { nanos } else { (nanos / 10).max(20_000_000) };
            let moved = |pause: u128| pause * u128::from(800 + 4 * jitter_percent) / 1_000;

            let expected = moved(oracle(first, look, |pause| pause + pause / 2, nanos));
            let is = pause(look, longest, jitter);
            prop_assert!(is_near(is, expected.max(1_000_000)), "{is:?}, not {expected} ns");

            let most = nanos.max(60_000_000_000);
            let expected = moved(oracle(first, look, |pause| pause * 2, most));
            let is = pause_after_failure(look + 1, longest, None, jitter);
            prop_assert!(is_near(is, expected.max(1_000_000)), "{is:?}, not {expected} ns");
        }

        #[test]
        fn no_pause_is_nothing_or_too_long_or_shorter_than_the_one_before(
            look in any::<u32>(),
            longest in prop_oneof![1u64..1_000, 1u64..100_000_000, Just(u64::MAX)],
            asked in prop::option::of(0u64..2_000),
            jitter in 0.0f64..1.0,
        ) {
            let longest = Duration::from_millis(longest);
            let slack = Duration::from_millis(1).max(longest / 1_000_000);
            let most = |longest: Duration| (longest + slack).saturating_add(longest / 5);
            let is = pause(look, longest, jitter);
            prop_assert!(!is.is_zero() && is <= most(longest));
            prop_assert!(pause(look.saturating_add(1), longest, jitter) >= is);

            let asked = asked.map(Duration::from_secs);
            let failed = pause_after_failure(look, longest, asked, jitter);
            prop_assert!(failed >= asked.unwrap_or_default().min(LONGEST_ASKED));
            prop_assert!(failed <= most(longest.max(LONGEST_ASKED)));
            prop_assert!(pause_after_failure(look.saturating_add(1), longest, asked, jitter) >= failed);
        }
    }

    #[test]
    fn the_ends_of_durations_do_no_harm() {
        assert_eq!(pause(0, Duration::ZERO, 0.0), Duration::from_millis(1));
        assert_eq!(pause(u32::MAX, Duration::MAX, 1.0), Duration::MAX);
        let asked = Some(Duration::MAX);
        assert_eq!(pause_after_failure(u32::MAX, Duration::MAX, asked, 1.0), Duration::MAX);
        assert!(!pause_after_failure(0, Duration::ZERO, None, 0.0).is_zero());
    }
}
