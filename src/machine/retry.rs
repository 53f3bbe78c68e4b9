//! When a failed attempt is tried again.

use std::time::Duration;

use crate::domain::FailureClass;

/// The longest that a provider's own word (`retry-after`) is obeyed for one request.
const LONGEST_ASKED: Duration = Duration::from_mins(10);

/// Returns how long to wait before the next try: exponential backoff with full jitter, and never
/// less than what the provider asked for.
///
/// `failures` counts the failures of this request in a row, from 1. `jitter` is uniform in `0.0..1.0`.
pub fn backoff(
    class: FailureClass,
    failures: u32,
    asked: Option<Duration>,
    jitter: f64,
) -> Duration {
    let (first, longest) = scale(class);
    let ceiling = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
    let spread = ceiling.min(longest).mul_f64(jitter.clamp(0.0, 1.0));
    match asked {
        // Jitter on top: those who were asked to wait alike must not come back alike.
        Some(asked) => asked.min(LONGEST_ASKED) + spread.min(asked.mul_f64(0.1) + first),
        None => spread,
    }
}

/// Returns the first and the longest ceiling of the backoff.
fn scale(class: FailureClass) -> (Duration, Duration) {
    match class {
        // The answer was wrong, not the provider: there is nothing to wait for.
        FailureClass::SchemaUnsupported
        | FailureClass::InvalidAnswer
        | FailureClass::MalformedReply => (Duration::from_millis(100), Duration::from_secs(2)),
        FailureClass::RateLimited | FailureClass::Overloaded => {
            (Duration::from_secs(1), Duration::from_mins(1))
        }
        FailureClass::ServerError
        | FailureClass::Timeout
        | FailureClass::Connection
        | FailureClass::Unreachable
        | FailureClass::QuotaExhausted
        | FailureClass::Unauthorized
        | FailureClass::Forbidden
        | FailureClass::ModelNotFound
        | FailureClass::EndpointNotFound
        | FailureClass::InvalidRequest
        | FailureClass::ContextTooLong
        | FailureClass::RequestTooLarge
        | FailureClass::ContentFiltered
        | FailureClass::Refused
        | FailureClass::RenderFailed
        | FailureClass::BatchExpired
        | FailureClass::BatchCancelled
        | FailureClass::BatchFailed
        | FailureClass::MissingFromBatch => (Duration::from_millis(500), Duration::from_secs(30)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_bounded_and_never_shorter_than_asked(
            class in prop::sample::select(FailureClass::ALL.to_vec()),
            failures in 0u32..100_000,
            asked in prop::option::of(0u64..500),
            jitter in 0.0f64..1.0,
        ) {
            let asked = asked.map(Duration::from_secs);
            let wait = backoff(class, failures, asked, jitter);
            prop_assert!(wait >= asked.unwrap_or_default());
            prop_assert!(wait <= Duration::from_mins(12));
            if asked.is_none() {
                prop_assert!(wait <= Duration::from_mins(1));
            }
        }
    }

    #[test]
    fn backoff_doubles_and_then_stays() {
        let at = |failures| backoff(FailureClass::ServerError, failures, None, 1.0);
        assert_eq!(at(1), Duration::from_millis(500));
        assert_eq!(at(2), Duration::from_secs(1));
        assert_eq!(at(4), Duration::from_secs(4));
        assert_eq!(at(20), Duration::from_secs(30));
        assert_eq!(backoff(FailureClass::ServerError, 3, None, 0.0), Duration::ZERO);
    }
}
