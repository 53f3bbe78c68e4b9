//! Refusals that have nothing to do with the rate.
//!
//! Some providers answer a call with 429 now and then, however slowly they are called: another tenant's burst, a proxy
//! with a short queue, a fault. To slow down at each of them does not help, and would go on without end. At a limit
//! refusals come close together, and there are none below it. So a cumulative sum (CUSUM) grows by one with each refusal
//! and falls by what is borne with each call; and what is met below a rate that was measured to go is borne from then on.

/// The sum at which refusals speak of a limit where none is known.
const SPEAKS: f64 = 3.0;
/// The share that is borne before anything is known.
const BORNE: f64 = 0.04;
/// The same where a limit is known.
const BORNE_AT_A_LIMIT: f64 = 0.02;
/// Beyond a share that is met whatever the rate, so much more of it is borne.
const SPREAD: f64 = 1.3;
/// How fast that share follows what is met, and the most it is taken to be.
const FOLLOWS: f64 = 0.02;
const MOST: f64 = 0.3;
/// Where a limit is known, one refusal speaks of it at this many calls a second or fewer; at more of them more do.
const ONE_AT: f64 = 4.0;
const MORE: f64 = 3.0;
/// By how much a share that is met anyway adds to that.
const AND_FOR_SHARE: f64 = 20.0;
/// What is left of the share when there is a limit after all.
const DOUBTED: f64 = 0.5;
/// So many refusals in a row that did not speak of a limit hold up none but their own calls.
const SPARED: u32 = 3;

/// How refusals hold the rate down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The rate, in calls a second.
    pub(super) rate: f64,
    /// Whether it is lower than what was measured to go.
    pub(super) is_below: bool,
    /// The last call that went before it was cut.
    pub(super) cut_number: u64,
}

/// What is known of refusals that have nothing to do with the rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Stray {
    /// Their share, as far as it was met below a rate that is known to go.
    share: f64,
    sum: f64,
    /// How many in a row have not spoken of a limit.
    spared: u32,
}

/// What a refusal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// The rate is too high.
    OfALimit,
    /// Nothing yet.
    Unknown,
    /// Nothing beyond its own call.
    OfItself,
}

impl Stray {
    /// Takes in a call that was let in.
    pub(super) fn served(&mut self, number: u64, held: Option<Held>) {
        self.sum = (self.sum - self.borne(held)).max(0.0);
        self.meet(0.0, number, held);
    }

    /// Takes in a call that was refused, and says what that speaks of; it takes `times` as many to speak of a limit.
    pub(super) fn refused(&mut self, number: u64, held: Option<Held>, times: f64) -> Speaks {
        let one = 1.0 - self.borne(held);
        self.sum += one;
        self.meet(1.0, number, held);
        let enough = match held {
            Some(held) if held.rate <= ONE_AT => 0.0,
            Some(held) => one * (held.rate / ONE_AT).min(MORE) + AND_FOR_SHARE * self.share,
            None => SPEAKS * times,
        };
        if self.sum >= enough {
            self.sum = 0.0;
            self.spared = 0;
            if held.is_some_and(|held| !held.is_below) {
                // It had climbed back without as many: slowing down had helped.
                self.share *= DOUBTED;
            }
            return Speaks::OfALimit;
        }
        self.spared = self.spared.saturating_add(1);
        if self.spared > SPARED { Speaks::OfItself } else { Speaks::Unknown }
    }

    fn borne(&self, held: Option<Held>) -> f64 {
        let anyway = if held.is_some() { BORNE_AT_A_LIMIT } else { BORNE };
        anyway + SPREAD * self.share
    }

    fn meet(&mut self, met: f64, number: u64, held: Option<Held>) {
        if held.is_some_and(|held| held.is_below && held.rate > ONE_AT && number > held.cut_number)
        {
            self.share = (self.share + FOLLOWS * (met - self.share)).min(MOST);
        }
    }
}
