//! The rate that refusals teach, where no header tells it, or tells it wrong.
//!
//! A provider that refuses has nothing left at that moment. So what it took between two refusals, divided by the time
//! between them, is its rate: nothing has to be tried out. From there
//!
//! ```text
//!   rate                                    ╱   further on ever faster: the limit may have been raised
//!    │                                   ╱
//!    │  goal ─ ─ ─ ─ ─ ─ ─ ─ ─.─ ─ ─'─ ─ ─      the rate that was measured
//!    │            .   '                         slowly by it, as a look
//!    │  95%  ╱                                  after a refusal
//!    └────────────────────────────────────▶ time since
//! ```
//! All refusals of calls that had been sent before the rate was cut answer to one mistake and cut once.

use std::collections::VecDeque;
use std::time::Duration;

use super::bucket::wait_for;
use super::stray::Held;

/// How far below the goal a cut goes.
const BELOW: f64 = 0.05;
/// From a cut until the goal is reached again, at least, and in calls: so that refusals stay rare at low rates as well.
const SHORTEST_CLIMB_S: f64 = 30.0;
const CLIMB_CALLS: f64 = 60.0;
const LONGEST_CLIMB_S: f64 = 60.0;
/// The same in pauses as long as the provider asks for.
const CLIMB_PAUSES: f64 = 8.0;
/// So many calls between two refusals are enough to measure by.
const MEASURED_BY: f64 = 3.0;
/// From here on the rate has climbed back to the goal.
const NEARLY: f64 = 0.99;
/// So far beyond the goal without a refusal, there is no limit any more.
const GONE: f64 = 50.0;
/// In what time the rate doubles while no goal is known.
const DOUBLES_S: f64 = 10.0;
/// In what time it doubles once it is beyond the goal by as much as it was below it.
const DOUBLES_BEYOND_S: f64 = 20.0;
/// A goal so much lower than the one before it is taken for a limit that was lowered for a while: so long.
const LOWERED: f64 = 1.3;
const LOWERED_FOR: Duration = Duration::from_mins(5);
/// A goal that has stood for less than this was none.
const LONG: Duration = Duration::from_secs(20);
/// How often it is put down how much was taken, and how often that is kept: a minute and some more.
const MARK: Duration = Duration::from_secs(5);
const MARKS: usize = 14;
/// The least rate, in calls a second.
const LEAST: f64 = 1.0 / 60.0;

/// A refusal, as far as the rate is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) now: Duration,
    /// When its call was sent, its number, and all calls up to it.
    pub(super) from: Duration,
    pub(super) number: u64,
    pub(super) up_to: f64,
    /// A moment before which every call would have been refused by now if it was to be, and the calls sent by then.
    pub(super) known: Duration,
    pub(super) by_then: f64,
    /// All calls that were sent by now.
    pub(super) all: f64,
    /// The number of the last call.
    pub(super) last: u64,
    pub(super) asked: Option<Duration>,
}

/// The rate that refusals have taught.
#[derive(Clone, Debug)]
pub(super) struct Ceiling {
    /// In calls a second.
    rate: f64,
    goal: Option<f64>,
    credit: f64,
    at: Duration,
    /// Since the last cut: when, at which rate, the last call before it, and the calls sent by then.
    cut_at: Duration,
    cut_to: f64,
    cut_number: u64,
    /// From when on, and from how many calls on, what is taken is measured.
    measured_from: (Duration, f64),
    measured_number: u64,
    /// Calls that were refused since.
    refused: f64,
    /// The rate that what was taken at first stands for, at least.
    least: f64,
    /// Until when the limit is taken to have been lowered.
    lowered_until: Duration,
    /// Refusals in a row with hardly a call between.
    closed: u32,
    /// Whether what is used up comes back all at once, so that what was taken between two refusals says little.
    is_window: bool,
    asked_s: f64,
    /// Calls sent and not refused by some moments of the last minute, five seconds apart.
    marks: VecDeque<(Duration, f64)>,
    refused_in_all: f64,
    /// The last goal that stood for a while, and when it fell.
    former: Option<(f64, Duration)>,
}

impl Ceiling {
    /// Starts from the first refusal of a call.
    pub(super) fn new(refusal: Refusal) -> Self {
        let seconds = refusal.now.as_secs_f64().clamp(1.0, 10.0);
        let mut new = Self::at_rate((0.5 * refusal.all / seconds).max(1.0), refusal.now);
        new.begin(refusal);
        new.closed = 1;
        // A full minute's worth may have been waiting, and then a minute have come in.
        new.least = (refusal.by_then / 120.0).max(LEAST);
        new
    }

    /// Starts from the rate that another run has learned.
    pub(super) fn remembered(per_minute: f64) -> Self {
        let goal = per_minute / 60.0;
        Self { goal: Some(goal), ..Self::at_rate(goal * (1.0 - BELOW), Duration::ZERO) }
    }

    fn at_rate(rate: f64, now: Duration) -> Self {
        Self {
            rate,
            goal: None,
            credit: 0.0,
            at: now,
            cut_at: now,
            cut_to: rate,
            cut_number: 0,
            measured_from: (now, 0.0),
            measured_number: 0,
            refused: 0.0,
            least: LEAST,
            lowered_until: Duration::ZERO,
            closed: 0,
            is_window: false,
            asked_s: 0.0,
            marks: VecDeque::new(),
            refused_in_all: 0.0,
            former: None,
        }
    }

    /// Returns the rate that was measured.
    pub(super) fn per_minute(&self) -> Option<f64> {
        self.goal.map(|goal| goal * 60.0)
    }

    /// Says whether it was measured in this run, not remembered from another.
    pub(super) fn is_measured(&self) -> bool {
        self.cut_number > 0
    }

    /// Returns how the rate is held down.
    pub(super) fn held(&self) -> Held {
        let is_below = self.goal.is_none_or(|goal| self.rate < NEARLY * goal);
        Held { rate: self.rate, is_below, cut_number: self.cut_number }
    }

    /// Says whether it has been outgrown by far.
    pub(super) fn is_gone(&self) -> bool {
        self.goal.is_some_and(|goal| self.rate > GONE * goal)
    }

    /// Returns how long until a call may go.
    pub(super) fn ready_in(&mut self, now: Duration, all: f64) -> Duration {
        self.fill(now, all);
        wait_for(-self.credit, self.rate)
    }

    pub(super) fn take(&mut self) {
        self.credit -= 1.0;
    }

    pub(super) fn give_back(&mut self) {
        self.credit += 1.0;
    }

    /// Takes in a refusal that says nothing of the rate: its call was not let in.
    pub(super) fn pass_over(&mut self, number: u64) {
        self.refused_in_all += 1.0;
        if number > self.measured_number {
            self.refused += 1.0;
        }
    }

    /// Takes in a refusal. Returns for how long to pause where the provider has not said.
    pub(super) fn refused(&mut self, refusal: Refusal) -> Option<Duration> {
        self.pass_over(refusal.number);
        if refusal.number <= self.cut_number {
            return None;
        }
        self.fill(refusal.now, refusal.all);
        let asked = refusal.asked.unwrap_or_default().as_secs_f64();
        // A bucket would have some again after a moment.
        self.is_window |= asked > 5.0 && asked * self.rate > 10.0;
        let (from, before) = self.measured_from;
        // This one was sent later than what is known.
        let taken = (refusal.by_then - before - (self.refused - 1.0)).max(0.0);
        let seconds = refusal.known.saturating_sub(from).as_secs_f64();
        if taken < MEASURED_BY || seconds <= 0.0 {
            // Not too fast, but closed: a window that is used up, or somebody else's burst.
            self.closed += 1;
            if taken < 1.0 && self.closed > 3 && seconds > 3.0 {
                self.is_window = true;
                self.goal = self.goal.or(Some(self.least * 2.0));
            }
            self.rate = match self.goal {
                Some(goal) => goal * (1.0 - BELOW),
                None => (0.5 * self.rate).max(self.least),
            };
            let measured = (self.measured_from, self.measured_number, self.refused);
            self.begin(refusal);
            (self.measured_from, self.measured_number, self.refused) = measured;
        } else {
            let measured = taken / seconds;
            let lately = self.taken_lately(refusal, 5.0).unwrap_or(0.0);
            self.is_window &= seconds > 5.0;
            // What was sent lately was taken as well, and the limit may have been raised since the last refusal.
            let goal = match self.is_window {
                true => f64::INFINITY,
                false if lately > 1.2 * measured => measured.max(0.7 * lately),
                false => measured,
            };
            // However a minute is counted, a refusal says that the last one brought no less than the limit.
            let most = self.taken_lately(refusal, 60.0).unwrap_or(measured.max(lately));
            let goal = goal.min(most).max(LEAST);
            // A few calls measure it badly; too low is soon mended.
            let trust = (taken / 20.0).clamp(0.2, 1.0);
            let goal = self.goal.map_or(goal, |was| goal.min(was + trust * (goal - was)));
            self.remember_the_former(refusal.now, goal);
            self.goal = Some(goal);
            self.rate = goal * (1.0 - BELOW);
            self.closed = 0;
            self.begin(refusal);
        }
        let pause = 500.0 * f64::from(1u32 << self.closed.min(5));
        Some(Duration::from_millis(pause.min(15_000.0) as u64))
    }

    fn remember_the_former(&mut self, now: Duration, new: f64) {
        if let Some(goal) = self.goal
            && now.saturating_sub(self.cut_at) > LONG
        {
            self.former = Some((goal, now));
        }
        let is_lowered = |(former, at): (f64, Duration)| {
            former > LOWERED * new && now.saturating_sub(at) < Duration::from_mins(2)
        };
        if self.former.is_some_and(is_lowered) {
            self.lowered_until = now + LOWERED_FOR;
        }
    }

    fn begin(&mut self, refusal: Refusal) {
        (self.cut_at, self.cut_to, self.cut_number) = (refusal.now, self.rate, refusal.last);
        // The provider had nothing left when this one came, not when its reply came.
        self.measured_from = (refusal.from, refusal.up_to);
        self.measured_number = refusal.number;
        self.refused = 0.0;
        self.credit = 0.0;
        self.asked_s = refusal.asked.unwrap_or_default().as_secs_f64().min(60.0);
    }

    /// Returns the calls a second that were taken in a while before a refusal, if so far back is known.
    fn taken_lately(&self, refusal: Refusal, seconds: f64) -> Option<f64> {
        let then = refusal.known.as_secs_f64() - seconds;
        let is_before = |(at, _): &&(Duration, f64)| at.as_secs_f64() <= then;
        let (at, all) = self.marks.iter().rev().find(is_before)?;
        let passed = refusal.known.saturating_sub(*at).as_secs_f64();
        Some((refusal.by_then - (self.refused_in_all - 1.0) - all).max(0.0) / passed)
    }

    fn fill(&mut self, now: Duration, all: f64) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        self.credit = (self.credit + passed * self.rate).min((self.rate * 0.1).max(0.0));
        self.at = now;
        if self.marks.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= MARK) {
            self.marks.push_back((now, all - self.refused_in_all));
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
        let since = now.saturating_sub(self.cut_at).as_secs_f64();
        self.rate = match self.goal {
            None => self.cut_to * 2f64.powf(since / DOUBLES_S),
            Some(goal) => {
                let calls = match now < self.lowered_until {
                    true => 0.0,
                    false => (CLIMB_CALLS / goal).min(LONGEST_CLIMB_S),
                };
                let pauses = CLIMB_PAUSES * self.asked_s;
                let climb = SHORTEST_CLIMB_S.max(calls).max(pauses).min(600.0);
                let way = since / climb - 1.0;
                let beyond = (since - 2.0 * climb) / DOUBLES_BEYOND_S;
                let near = goal * (1.0 + BELOW * way.clamp(-1.0, 1.0).powi(3));
                near * 2f64.powf(beyond.clamp(0.0, 10.0))
            }
        };
    }
}
