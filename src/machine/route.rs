//! Whether requests go one by one or in batches.

use std::fmt;

pub use crate::domain::Oversized;
use crate::domain::Route;

/// From how many due requests on a batch is worth its wait.
pub const LEAST_FOR_A_BATCH: u64 = 500;

/// What a person asked for (`--route`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whichever is better.
    Auto,
    /// Batches, however few requests there are.
    Batch,
    /// Single calls, however many requests there are.
    Realtime,
}

/// Whether a server has batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasBatches {
    /// It is known to.
    Yes,
    /// A server of one's own: it is found out when it is asked.
    Perhaps,
    /// It is known not to.
    No,
}

/// Why a route was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A person asked for it.
    AskedFor,
    /// The provider has no batches.
    NoBatchApi,
    /// A batch is not worth its wait.
    TooFew {
        /// So many requests are due.
        due: u64,
        /// So many would have to be.
        least: u64,
    },
    /// Enough are due and the provider has batches, which cost less.
    HalfPrice,
    /// Enough are due, and whether the server has batches is found out.
    EnoughPerhaps,
}

impl fmt::Display for Why {
    /// Writes a clause that goes on from "because".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskedFor => f.write_str("it was asked for"),
            Self::NoBatchApi => f.write_str("the provider has no batches"),
            Self::TooFew { due: 1, least } => {
                write!(f, "1 request is due, and a batch is for {least} or more")
            }
            Self::TooFew { due, least } => {
                write!(f, "{due} requests are due, and a batch is for {least} or more")
            }
            Self::HalfPrice => f.write_str("a batch costs less"),
            Self::EnoughPerhaps => {
                f.write_str("a batch mostly costs less, if the server turns out to have batches")
            }
        }
    }
}

/// A route, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The route.
    pub route: Route,
    /// Why it is this one.
    pub why: Why,
}

/// Chooses the route of `due` requests.
///
/// What was asked for is chosen even where the provider is known not to have it: that is the caller's
/// to refuse, with a word on what to do.
pub fn choose(asked: Asked, has: HasBatches, due: u64) -> Choice {
    let (route, why) = match (asked, has) {
        (Asked::Realtime, HasBatches::Yes | HasBatches::Perhaps | HasBatches::No) => {
            (Route::Realtime, Why::AskedFor)
        }
        (Asked::Batch, HasBatches::Yes | HasBatches::Perhaps | HasBatches::No) => {
            (Route::Batch, Why::AskedFor)
        }
        (Asked::Auto, HasBatches::No) => (Route::Realtime, Why::NoBatchApi),
        (Asked::Auto, HasBatches::Yes | HasBatches::Perhaps) if due < LEAST_FOR_A_BATCH => {
            (Route::Realtime, Why::TooFew { due, least: LEAST_FOR_A_BATCH })
        }
        (Asked::Auto, HasBatches::Yes) => (Route::Batch, Why::HalfPrice),
        (Asked::Auto, HasBatches::Perhaps) => (Route::Batch, Why::EnoughPerhaps),
    };
    Choice { route, why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_of_routes() {
        let few = |due| Why::TooFew { due, least: 500 };
        let table = [
            (Asked::Auto, HasBatches::Yes, 0, Route::Realtime, few(0)),
            (Asked::Auto, HasBatches::Yes, 499, Route::Realtime, few(499)),
            (Asked::Auto, HasBatches::Yes, 500, Route::Batch, Why::HalfPrice),
            (Asked::Auto, HasBatches::Perhaps, 499, Route::Realtime, few(499)),
            (Asked::Auto, HasBatches::Perhaps, 500, Route::Batch, Why::EnoughPerhaps),
            (Asked::Auto, HasBatches::No, 1, Route::Realtime, Why::NoBatchApi),
            (Asked::Auto, HasBatches::No, u64::MAX, Route::Realtime, Why::NoBatchApi),
            (Asked::Batch, HasBatches::Yes, 1, Route::Batch, Why::AskedFor),
            (Asked::Batch, HasBatches::No, 1, Route::Batch, Why::AskedFor),
            (Asked::Realtime, HasBatches::Yes, 1_000_000, Route::Realtime, Why::AskedFor),
        ];
        for (asked, has, due, route, why) in table {
            assert_eq!(choose(asked, has, due), Choice { route, why }, "{asked:?} {has:?} {due}");
        }
    }

    #[test]
    fn reasons_are_said_in_words_and_promise_no_percentage() {
        let all = [
            (Why::AskedFor, "it was asked for"),
            (Why::NoBatchApi, "the provider has no batches"),
            (
                Why::TooFew { due: 1, least: 500 },
                "1 request is due, and a batch is for 500 or more",
            ),
            (
                Why::TooFew { due: 12, least: 500 },
                "12 requests are due, and a batch is for 500 or more",
            ),
            (Why::HalfPrice, "a batch costs less"),
            (
                Why::EnoughPerhaps,
                "a batch mostly costs less, if the server turns out to have batches",
            ),
        ];
        for (why, words) in all {
            assert_eq!(why.to_string(), words);
        }
    }

    proptest! {
        /// The oracle names the one case in which requests go into batches, and one reason at a time.
        #[test]
        fn every_choice_is_the_oracles(
            asked in prop::sample::select(vec![Asked::Auto, Asked::Batch, Asked::Realtime]),
            has in prop::sample::select(vec![HasBatches::Yes, HasBatches::Perhaps, HasBatches::No]),
            due in prop_oneof![0u64..1_000, any::<u64>()],
        ) {
            let Choice { route, why } = choose(asked, has, due);
            let in_batches = asked == Asked::Batch
                || (asked == Asked::Auto && has != HasBatches::No && due >= 500);
            prop_assert_eq!(route == Route::Batch, in_batches);
            prop_assert_eq!(why == Why::AskedFor, asked != Asked::Auto);
            if asked == Asked::Auto {
                prop_assert_eq!(why == Why::NoBatchApi, has == HasBatches::No);
                let too_few = Why::TooFew { due, least: LEAST_FOR_A_BATCH };
                prop_assert_eq!(why == too_few, has != HasBatches::No && !in_batches);
                prop_assert_eq!(why == Why::HalfPrice, in_batches && has == HasBatches::Yes);
                prop_assert_eq!(why == Why::EnoughPerhaps, in_batches && has == HasBatches::Perhaps);
            }
        }
    }
}
