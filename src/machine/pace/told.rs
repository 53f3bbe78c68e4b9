//! One limit that a provider's headers tell of: how much of it is left there, and how fast to use that.
//!
//! ```text
//!   level    what is left at the provider once all that was sent has been counted: the last header, less what went
//!            after it, plus what has come in since
//!   credit   what may go now; it comes in at the provider's own rate, and faster while there is more than the margin
//! ```
//! So a full bucket is used up in a while and from then on exactly what comes in, with the margin left standing:
//! against others who use the same limit, and against our own guesses. What comes in depends on how the provider
//! counts, which its words betray: a bucket fills evenly and is full after what is missing divided by the rate. Where
//! that does not fit, no minute is given more than the limit, which is right for windows of all kinds.
//!
//! Never waits longer than a window on the strength of a header alone: headers lie.

use std::time::Duration;

use super::bucket::wait_for;
use super::minute::Minute;
use super::sent::Amount;

/// In what time what is left beyond the margin is used up.
const USED_UP_S: f64 = 10.0;
/// The same where it comes back by the minute.
const SPREAD_OVER_S: f64 = 20.0;
/// What is left standing, as a share of a minute's worth: at first, at least and at most.
const MARGIN: f64 = 0.04;
const NARROWEST_MARGIN: f64 = 0.002;
const WIDEST_MARGIN: f64 = 0.12;
/// What of that is left standing where nothing is kept from one minute to the next.
const BY_THE_MINUTE: f64 = 0.25;
/// In what time a margin that was widened comes back, to a third.
const MARGIN_BACK_S: f64 = 240.0;
/// How often replies are asked how the limit comes back: halfway through a window, all of them speak of a bucket.
const BETWEEN_VOTES: Duration = Duration::from_millis(500);
/// How often it is looked whether what was sent a minute ago is there again.
const A_WHILE: Duration = Duration::from_millis(250);
/// The longest that a window is waited for.
const LONGEST_WINDOW: Duration = Duration::from_secs(65);
/// How far what a provider counts may be off from what was guessed.
const SCALES: (f64, f64) = (1.0 / 64.0, 8.0);

/// What a provider's headers say of one of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitSeen {
    /// So many a minute.
    pub per_minute: Option<f64>,
    /// So many are left now.
    pub remaining: Option<f64>,
    /// All of them are there again in so much time.
    pub reset: Option<Duration>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Requests,
    Tokens,
}

impl Unit {
    fn of(self, amount: Amount) -> f64 {
        match self {
            Self::Requests => amount.requests,
            Self::Tokens => amount.tokens,
        }
    }
}

/// How what is left comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Inflow {
    /// Evenly: more than the margin may be used at once.
    Even,
    /// Otherwise. A window that starts anew at once and one that slides both let through what is no more than the limit in
    /// any minute.
    ByTheMinute,
}

/// A reply, as far as a limit is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) seen: LimitSeen,
    /// When its request was sent, and when it came.
    pub(super) from: Duration,
    pub(super) now: Duration,
    /// All that was sent up to its request, and all by now.
    pub(super) up_to: Amount,
    pub(super) all: Amount,
}

/// What the replies of late have made of how a limit comes back.
#[derive(Clone, Copy, Debug, Default)]
struct Words {
    count: u32,
    voted_at: Duration,
    /// The share of those that spoke of a bucket.
    even: f64,
}

/// A limit that headers told of.
#[derive(Clone, Debug)]
pub(super) struct Told {
    unit: Unit,
    per_second: f64,
    capacity: f64,
    level: f64,
    /// What the last header said is left.
    left: f64,
    credit: f64,
    at: Duration,
    inflow: Inflow,
    margin: f64,
    /// What was sent in the last minute, and what others seem to have.
    minute: Minute,
    others: f64,
    /// What the provider counts for one that was guessed.
    scale: f64,
    words: Words,
    /// The reply from which the scale, or the inflow, is measured.
    since: Option<Said>,
    /// Up to which call what is left may turn out to be more than was thought.
    heard_after: f64,
    /// Whether it was told in this run, not remembered from another.
    pub(super) is_heard: bool,
    /// Replies that did not speak of it since one did.
    pub(super) silent: u32,
}

impl Told {
    /// Starts from a provider's first word of it.
    pub(super) fn new(unit: Unit, per_minute: f64, now: Duration) -> Self {
        let per_second = per_minute / 60.0;
        Self {
            unit,
            per_second,
            capacity: per_minute,
            level: per_minute,
            left: per_minute,
            credit: 0.0,
            at: now,
            inflow: Inflow::Even,
            margin: MARGIN,
            minute: Minute::new(),
            others: 0.0,
            scale: 1.0,
            words: Words::default(),
            since: None,
            heard_after: 0.0,
            is_heard: false,
            silent: 0,
        }
    }

    /// Starts from what another run has learned: nothing is known of what is left, so evenly.
    pub(super) fn remembered(unit: Unit, per_minute: f64) -> Self {
        let new = Self::new(unit, per_minute, Duration::ZERO);
        Self { level: new.per_second + new.reserve(), ..new }
    }

    /// Returns the rate.
    pub(super) fn per_minute(&self) -> f64 {
        self.per_second * 60.0
    }

    /// Returns how many requests of so much it lets through in a while.
    pub(super) fn in_a_while(&self, span: Duration, need: f64) -> f64 {
        self.per_second * span.as_secs_f64() / (need * self.scale).max(1.0)
    }

    /// Returns how long until a request of so much may go.
    pub(super) fn ready_in(&mut self, now: Duration, need: f64) -> Duration {
        self.fill(now);
        let flow = self.flow();
        let by_credit = wait_for(-self.credit, flow);
        let enough = (need * self.scale + self.reserve()).min(0.95 * self.capacity);
        let missing = enough - self.level;
        let by_level = match self.inflow {
            Inflow::Even => wait_for(missing, self.per_second),
            // What was sent a minute ago is there again at its time.
            Inflow::ByTheMinute => wait_for(missing, self.per_second).min(A_WHILE),
        };
        by_credit.max(by_level).min(LONGEST_WINDOW)
    }

    pub(super) fn take(&mut self, now: Duration, need: f64) {
        self.fill(now);
        let need = need * self.scale;
        // No provider counts on beyond a whole minute.
        self.level = (self.level - need).max(-self.capacity);
        self.minute.add(now, need);
        self.credit = (self.credit - need).max(-self.capacity);
    }

    /// Gives back what was taken for nothing.
    pub(super) fn give_back(&mut self, need: f64) {
        let need = need * self.scale;
        self.level = (self.level + need).min(self.capacity);
        self.credit += need;
        self.minute.add(self.at, -need);
    }

    /// Takes in what a reply says.
    pub(super) fn heard(&mut self, said: Said) {
        let Some(per_minute) = said.seen.per_minute.filter(|limit| *limit >= 1.0) else { return };
        self.fill(said.now);
        (self.per_second, self.capacity) = (per_minute / 60.0, per_minute);
        let left = match (said.seen.remaining, said.seen.reset) {
            (Some(remaining), _) => Some(remaining),
            (None, Some(reset)) => {
                Some((per_minute - self.per_second * reset.as_secs_f64()).max(0.0))
            }
            (None, None) => None,
        };
        let Some(left) = left else {
            self.is_heard = true;
            return;
        };
        self.left = left;
        let said = Said { seen: LimitSeen { remaining: Some(left), ..said.seen }, ..said };
        self.learn_the_inflow(said, left);
        self.learn_the_scale(said, left);
        if self.inflow == Inflow::ByTheMinute {
            let own = self.capacity - self.minute.sum(said.now);
            self.others = (own - self.level_after(said, left).min(own)).max(0.0);
            self.level = own;
        }
        self.level = self.level_after(said, left).clamp(-self.capacity, self.capacity);
        if !self.is_heard {
            self.heard_after = 2.0 * said.all.requests;
        }
        self.is_heard = true;
    }

    /// Sets the level against what a reply says is left. Whether that is how it stood when the request came or when the
    /// reply went, nobody says: between the two lies what went after it, and what has come in since.
    fn level_after(&self, said: Said, left: f64) -> f64 {
        let later = self.unit.of(said.all.since(said.up_to)) * self.scale;
        let took = said.now.saturating_sub(said.from).as_secs_f64();
        let come_in = match self.inflow {
            Inflow::Even => took * self.per_second,
            Inflow::ByTheMinute => 0.0,
        };
        let when_it_came = left - later + come_in;
        let (least, most) = (left.min(when_it_came), left.max(when_it_came));
        if !self.is_heard {
            return least;
        }
        // Each call counts for one, so once the first burst is counted, nothing has been counted too high.
        let may_rise = match self.unit {
            Unit::Requests => said.up_to.requests <= self.heard_after,
            Unit::Tokens => true,
        };
        match self.inflow {
            Inflow::Even if may_rise => self.level.clamp(least, most),
            Inflow::Even | Inflow::ByTheMinute => self.level.min(most),
        }
    }

    /// Says whether, for all that is known here, there was too little for a request of so much.
    pub(super) fn is_short(&self, need: f64) -> bool {
        self.level <= need * self.scale + self.reserve()
    }

    /// Leaves more standing: there was less than was thought.
    pub(super) fn widen(&mut self) {
        self.margin = (self.margin * 2.0).min(WIDEST_MARGIN);
    }

    /// Leaves less standing: so little is the rule here, and nothing was refused for it.
    pub(super) fn served(&mut self) {
        if self.left < self.reserve() {
            self.margin = (self.margin * 0.995).max(NARROWEST_MARGIN);
        }
    }

    fn reserve(&self) -> f64 {
        let share = match self.inflow {
            Inflow::Even => 1.0,
            Inflow::ByTheMinute => BY_THE_MINUTE,
        };
        self.margin * self.capacity * share
    }

    /// Returns how much may go in a second now.
    fn flow(&self) -> f64 {
        let beyond = (self.level - self.reserve()).max(0.0);
        match self.inflow {
            Inflow::Even => self.per_second + beyond / USED_UP_S,
            Inflow::ByTheMinute => self.per_second + beyond / SPREAD_OVER_S,
        }
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let flow = self.flow();
        self.credit = (self.credit + passed * flow).min(flow * 0.1);
        self.margin = MARGIN + (self.margin - MARGIN) * (-passed / MARGIN_BACK_S).exp();
        self.at = now;
        match self.inflow {
            Inflow::Even => {
                self.level = (self.level + passed * self.per_second).min(self.capacity);
            }
            Inflow::ByTheMinute => {
                self.others = (self.others - passed * self.per_second).max(0.0);
                self.level = self.capacity - self.minute.sum(now) - self.others;
            }
        }
    }

    /// Finds out from what is left, and from when it is to be whole again, how it comes back.
    fn learn_the_inflow(&mut self, said: Said, left: f64) {
        let missing = (self.capacity - left) / self.per_second;
        let Some(reset) = said.seen.reset.filter(|_| said.seen.remaining.is_some()) else {
            return self.watch_the_inflow(said, left);
        };
        let fills_evenly = (reset.as_secs_f64() - missing).abs() <= 1.1 + 0.03 * missing;
        // Early in both there is nothing to tell them apart by.
        if missing.max(reset.as_secs_f64()) > 2.5 {
            self.words.vote(said.now, fills_evenly);
        }
        self.inflow = self.words.inflow();
    }

    /// The same where nobody says when it is whole again: measures what came in while so much was used.
    fn watch_the_inflow(&mut self, said: Said, left: f64) {
        let Some(since) = self.since.filter(|_| self.unit == Unit::Requests) else { return };
        let seconds = said.from.saturating_sub(since.from).as_secs_f64();
        let full = seconds * self.per_second;
        if seconds < 3.0 || full < 4.0 {
            return;
        }
        let more = left - since.seen.remaining.unwrap_or(left);
        let by_sent = more + said.up_to.since(since.up_to).requests;
        let by_now = more + said.all.since(since.all).requests;
        if by_sent < 0.3 * full && by_now < 0.3 * full {
            self.words.vote(said.now, false);
        } else if by_sent > 0.7 * full || by_now > 0.7 * full {
            self.words.vote(said.now, true);
        }
        self.inflow = self.words.inflow();
        self.since = Some(said);
    }

    /// Finds out how much the provider counts for what was guessed.
    fn learn_the_scale(&mut self, said: Said, left: f64) {
        let Some(since) = self.since else {
            self.since = Some(said);
            let only = self.unit.of(said.up_to);
            let counted = self.capacity - left;
            // The first call of all, at a bucket that was full, tells it at once.
            let is_plain = said.up_to.requests <= 1.0 && counted > 0.0 && counted <= 1.5 * only;
            if self.unit == Unit::Tokens && is_plain {
                self.scale = (counted / only).clamp(SCALES.0, SCALES.1);
            }
            return;
        };
        if self.unit == Unit::Requests {
            return;
        }
        let guessed = self.unit.of(said.up_to.since(since.up_to));
        let later = self.unit.of(said.all.since(said.up_to));
        let seconds = said.from.saturating_sub(since.from).as_secs_f64();
        let is_enough = guessed * self.scale > (0.02 * self.capacity).max(2.0 * later * self.scale);
        if guessed <= 0.0 || seconds <= 0.0 || !(is_enough || seconds > 10.0) {
            return;
        }
        let before = since.seen.remaining.unwrap_or(left);
        self.since = Some(said);
        let come_in = match self.inflow {
            Inflow::Even => seconds * self.per_second,
            Inflow::ByTheMinute => 0.0,
        };
        let counted = before - left + come_in;
        // What comes into a full bucket is lost, and a window that starts anew brings more than its rate.
        if left.max(before) < 0.98 * self.capacity && counted > 0.0 {
            let ratio = (counted / guessed).clamp(self.scale / 2.0, self.scale * 2.0);
            self.scale = (0.5 * (self.scale + ratio)).clamp(SCALES.0, SCALES.1);
        }
    }
}

impl Words {
    fn vote(&mut self, now: Duration, is_even: bool) {
        if self.count >= 3 && now.saturating_sub(self.voted_at) < BETWEEN_VOTES {
            return;
        }
        (self.count, self.voted_at) = (self.count + 1, now);
        let weight = 1.0 / f64::from(self.count.min(20));
        self.even += weight * (f64::from(u8::from(is_even)) - self.even);
    }

    fn inflow(&self) -> Inflow {
        match self.even >= 0.5 || self.count < 3 {
            true => Inflow::Even,
            false => Inflow::ByTheMinute,
        }
    }
}
