//! How many calls are under way at once.
//!
//! A number given by hand stands from the first call on. Where none was given it starts low and doubles with every
//! round of answers, for as long as that pays: a server that answers eight at a time and lets the others queue answers
//! sixteen no sooner than twice eight. What pays is seen from the answers of a round alone, by Little's law: as many
//! a second as were under way, divided by how long one took. So nothing has to be known of the server, and what is true of
//! all its answers (that some are longer) falls out.
//!
//! ```text
//!  doubling ──no longer pays──▶ steady ──now and then──▶ look higher ──pays──▶ doubling
//!                                 ▲  └──now and then──▶ look lower ──costs nothing──▶ steady
//!                                 └─────────────── else ─────────────────┘
//! ```

use std::time::Duration;

/// Where the number starts when nobody said otherwise.
const START: u32 = 8;
/// How far it grows when nobody said otherwise.
const DEFAULT_CAP: u32 = 256;
/// More answers a second, as a share of more calls under way, that make those worth it.
const PAYS: f64 = 0.3;
/// Fewer answers a second that are none.
const COSTS_NOTHING: f64 = 0.95;
/// The step of a look, up and down.
const HIGHER: f64 = 1.25;
const LOWER: f64 = 0.8;
/// Rounds between two looks: at first, and at most.
const SOON: u32 = 1;
const SELDOM: u32 = 16;
/// Answers of a round.
const ROUND: u32 = 8;
const STEADY_ROUND: u32 = 32;
/// Answers that take less than so many times the shortest round's wait for nobody.
const UNHURRIED: f64 = 1.2;

/// How many are under way, and how many may be.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    cap: u32,
    limit: f64,
    in_flight: u32,
    course: Course,
    round: Round,
    has_served: bool,
    /// The shortest mean of a round.
    floor_s: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Course {
    /// A number given by hand: only refusals lower it, and it comes back by one a round.
    ByHand,
    /// Twice as many each round; the round before this one, if there was one.
    Doubling(Option<Yield>),
    /// As many as pays.
    Steady { rounds: u32, patience: u32, is_higher_next: bool },
    /// Some more, or less, than the round before, which came to so much.
    Looking { was: Yield, limit: f64, patience: u32 },
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Yield {
    under_way: f64,
    per_second: f64,
}

/// The answers to the first calls that were sent since it began.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    after: u64,
    /// So many calls after that.
    calls: u32,
    answers: u32,
    seconds: f64,
    under_way: f64,
}

impl Crowd {
    pub(super) fn new(by_hand: Option<u32>) -> Self {
        let (cap, start, course) = match by_hand {
            Some(number) => (number.max(1), number.max(1), Course::ByHand),
            None => (DEFAULT_CAP, START, Course::Doubling(None)),
        };
        Self {
            cap,
            limit: f64::from(start),
            in_flight: 0,
            course,
            round: Round { calls: ROUND, ..Round::default() },
            has_served: false,
            floor_s: f64::INFINITY,
        }
    }

    pub(super) fn is_by_hand(&self) -> bool {
        self.course == Course::ByHand
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns how many may be under way now.
    pub(super) fn allowed(&self) -> u32 {
        (self.limit as u32).clamp(1, self.cap)
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.allowed()
    }

    pub(super) fn start(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes in an answer to call `number`, while `last` was the last one sent. Its place is still taken.
    /// `under_way` were when it was sent.
    pub(super) fn served(
        &mut self,
        (number, last): (u64, u64),
        (under_way, took): (u32, Duration),
    ) {
        let is_full = self.is_full();
        match self.course {
            Course::ByHand => {
                if is_full {
                    self.limit = (self.limit + 1.0 / self.limit).min(f64::from(self.cap));
                }
                return;
            }
            Course::Doubling(_) if is_full => {
                self.limit = (self.limit + 1.0).min(f64::from(self.cap));
            }
            Course::Doubling(_) | Course::Steady { .. } | Course::Looking { .. } => {}
        }
        if !self.has_served {
            self.has_served = true;
            self.begin_round(last);
        }
        let of_round = number.saturating_sub(self.round.after);
        if (1..=u64::from(self.round.calls)).contains(&of_round) {
            self.round.answers += 1;
            self.round.seconds += took.as_secs_f64().max(1e-4);
            self.round.under_way += f64::from(under_way);
        }
        // Not the first to come: those are the short ones. Some may never come.
        let is_over = of_round > 4 * u64::from(self.round.calls);
        if self.round.answers > 0 && (is_over || self.round.answers * 10 >= self.round.calls * 9) {
            let answers = f64::from(self.round.answers);
            let (mean, under_way) = (self.round.seconds / answers, self.round.under_way / answers);
            self.floor_s = self.floor_s.min(mean);
            self.judge(Yield { under_way, per_second: under_way / mean }, mean);
            self.begin_round(last);
        }
    }

    /// Takes the provider at its word that so many are let in while one is under way.
    pub(super) fn make_room(&mut self, at_once: f64) {
        if matches!(self.course, Course::Doubling(_)) {
            self.limit = self.limit.max(at_once.min(f64::from(self.cap)));
        }
    }

    /// Grows with care from now on: what is too much may be the number, though mostly it is the rate.
    pub(super) fn stop_doubling(&mut self, last: u64) {
        if matches!(self.course, Course::Doubling(_)) {
            self.settle(SOON, last);
        }
    }

    /// Lowers the number: the provider said that it is too much.
    pub(super) fn cut(&mut self, last: u64) {
        self.limit = (self.limit * 0.7).max(1.0);
        self.settle(SOON, last);
    }

    /// Lowers it to one, from where it doubles: the provider is away.
    pub(super) fn start_over(&mut self, last: u64) {
        self.limit = 1.0;
        if !self.is_by_hand() {
            self.course = Course::Doubling(None);
            self.begin_round(last);
        }
    }

    fn begin_round(&mut self, after: u64) {
        let calls = match self.course {
            Course::ByHand | Course::Doubling(_) => ROUND.max(self.in_flight),
            Course::Steady { .. } | Course::Looking { .. } => STEADY_ROUND.max(2 * self.in_flight),
        };
        self.round = Round { after, calls, ..Round::default() };
    }

    fn settle(&mut self, patience: u32, last: u64) {
        if !self.is_by_hand() {
            self.course = Course::Steady { rounds: 0, patience, is_higher_next: true };
            self.begin_round(last);
        }
    }

    fn judge(&mut self, now: Yield, mean: f64) {
        // What holds the calls back is something else: nothing is learned of how many pay.
        let is_filled = now.under_way >= 0.8 * self.limit.min(f64::from(self.cap));
        match self.course {
            Course::ByHand => {}
            Course::Doubling(before) => self.go_on_doubling(before, now),
            Course::Steady { .. } if !is_filled => {}
            Course::Steady { rounds, patience, is_higher_next } => {
                let waits = mean > UNHURRIED * self.floor_s;
                let is_at_cap = self.limit >= f64::from(self.cap);
                if rounds + 1 < patience {
                    self.course = Course::Steady { rounds: rounds + 1, patience, is_higher_next };
                } else if is_higher_next && !is_at_cap {
                    self.look(now, HIGHER, patience);
                } else if waits && self.limit > 1.0 {
                    self.look(now, LOWER, patience);
                } else {
                    self.course = Course::Steady { rounds: 0, patience, is_higher_next: true };
                }
            }
            Course::Looking { was, limit, patience } => {
                let is_higher = self.limit > limit;
                let ratio = now.per_second / was.per_second;
                let is_better = match is_higher {
                    true => is_filled && pays(was, now),
                    false => ratio >= COSTS_NOTHING,
                };
                self.course = if is_better && is_higher {
                    Course::Doubling(Some(now))
                } else {
                    if !is_better {
                        self.limit = limit;
                    }
                    let patience = if is_better { SOON } else { (patience * 2).min(SELDOM) };
                    Course::Steady { rounds: 0, patience, is_higher_next: !is_higher }
                };
            }
        }
    }

    fn go_on_doubling(&mut self, before: Option<Yield>, now: Yield) {
        let is_more = before.is_none_or(|before| now.under_way > 1.1 * before.under_way);
        self.course = match before {
            Some(before) if is_more && !pays(before, now) => {
                let enough = (before.under_way * HIGHER).max(f64::from(START));
                self.limit = enough.min(self.limit);
                Course::Steady { rounds: 0, patience: SOON, is_higher_next: true }
            }
            Some(before) if !is_more => Course::Doubling(Some(before)),
            Some(_) | None => Course::Doubling(Some(now)),
        };
    }

    fn look(&mut self, was: Yield, step: f64, patience: u32) {
        let limit = self.limit;
        let by = (limit * (step - 1.0)).abs().max(1.0).copysign(step - 1.0);
        self.limit = (limit + by).clamp(1.0, f64::from(self.cap));
        self.course = Course::Looking { was, limit, patience };
    }
}

/// Says whether more calls under way brought enough more answers.
fn pays(before: Yield, now: Yield) -> bool {
    let more = now.under_way / before.under_way - 1.0;
    now.per_second / before.per_second - 1.0 >= PAYS * more
}
