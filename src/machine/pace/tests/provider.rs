//! Providers in simulated time, and runs against them: every way to meter that was seen in practice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::*;

/// How a limit is metered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// A bucket that holds so many seconds' worth, fills evenly and is so full (0 to 1) at the start.
    Bucket { holds_s: f64, full: f64 },
    /// A window of a minute that starts anew at once; the first one is so many seconds old at the start.
    Window { age_s: f64 },
    /// No more in any minute.
    Sliding,
}

pub(super) const FULL: Shape = Shape::Bucket { holds_s: 60.0, full: 1.0 };
pub(super) const EMPTY: Shape = Shape::Bucket { holds_s: 60.0, full: 0.0 };

#[derive(Clone, Debug)]
struct Meter {
    shape: Shape,
    per_minute: f64,
    /// What is left in a bucket, or what was taken of a window.
    amount: f64,
    taken: VecDeque<(f64, f64)>,
    at: f64,
}

impl Meter {
    fn new(shape: Shape, per_minute: f64) -> Self {
        let amount = match shape {
            Shape::Bucket { holds_s, full } => full * holds_s * per_minute / 60.0,
            Shape::Window { .. } | Shape::Sliding => 0.0,
        };
        Self { shape, per_minute, amount, taken: VecDeque::new(), at: 0.0 }
    }

    fn at(&mut self, now: f64) {
        match self.shape {
            Shape::Bucket { holds_s, .. } => {
                let per_second = self.per_minute / 60.0;
                self.amount =
                    (self.amount + (now - self.at) * per_second).min(holds_s * per_second);
            }
            Shape::Window { age_s } => {
                let window = |at: f64| ((at + age_s) / 60.0).floor();
                if window(now) > window(self.at) {
                    self.amount = 0.0;
                }
            }
            Shape::Sliding => {
                while self.taken.front().is_some_and(|(at, _)| *at <= now - 60.0) {
                    self.amount -= self.taken.pop_front().unwrap().1;
                }
            }
        }
        self.at = now;
    }

    fn left(&mut self, now: f64) -> f64 {
        self.at(now);
        match self.shape {
            Shape::Bucket { .. } => self.amount,
            Shape::Window { .. } | Shape::Sliding => self.per_minute - self.amount,
        }
    }

    fn take(&mut self, now: f64, need: f64) {
        match self.shape {
            Shape::Bucket { .. } => self.amount -= need,
            Shape::Window { .. } => self.amount += need,
            Shape::Sliding => {
                self.amount += need;
                self.taken.push_back((now, need));
            }
        }
    }

    /// Returns when all is there again, as a provider with this meter would say.
    fn reset(&mut self, now: f64) -> f64 {
        match self.shape {
            Shape::Bucket { holds_s, .. } => {
                let per_second = self.per_minute / 60.0;
                ((holds_s * per_second - self.left(now)) / per_second).max(0.0)
            }
            Shape::Window { age_s } => (60.0 - (now + age_s) % 60.0).ceil(),
            Shape::Sliding => self.taken.front().map_or(0.0, |(at, _)| at + 60.0 - now),
        }
    }

    /// Returns how long until there is so much.
    fn wait(&mut self, now: f64, need: f64) -> f64 {
        match self.shape {
            Shape::Bucket { .. } => (need - self.left(now)) / (self.per_minute / 60.0),
            Shape::Window { .. } | Shape::Sliding => self.reset(now),
        }
    }
}

/// What headers say.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether a header is there")]
pub(super) struct Words {
    pub(super) limit: bool,
    pub(super) remaining: bool,
    pub(super) reset: bool,
    /// On every so many replies.
    pub(super) every: u64,
    /// As it stood when the reply went, not when the request came.
    pub(super) is_late: bool,
    /// The limit that is told, and what is left with it, is so many times the true one.
    pub(super) lie: f64,
}

pub(super) const ALL: Words =
    Words { limit: true, remaining: true, reset: true, every: 1, is_late: false, lie: 1.0 };
pub(super) const NONE: Words = Words { limit: false, remaining: false, reset: false, ..ALL };

/// A provider, and what is asked of it.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) rpm: Option<(Shape, f64)>,
    pub(super) tpm: Option<(Shape, f64)>,
    pub(super) words: Words,
    pub(super) retry_after: bool,
    /// The mean time of an answer, and how far it varies: 0.5 is a half more or less.
    pub(super) latency: (f64, f64),
    /// Answers at a time; the others queue.
    pub(super) slots: Option<usize>,
    /// The share of calls that are refused whatever the rate.
    pub(super) stray: f64,
    /// Calls at a time; the others are refused.
    pub(super) at_once: Option<usize>,
    /// The share of the limit that somebody else uses at a time.
    pub(super) others: fn(f64) -> f64,
    /// The limit at a time, as a share of itself.
    pub(super) limit_at: fn(f64) -> f64,
    /// The tokens that a call is guessed to take, and how far they vary; what is counted for a token guessed.
    pub(super) tokens: (f64, f64),
    pub(super) scale: f64,
    pub(super) concurrency: Option<u32>,
    pub(super) remembered: Rates,
    pub(super) seconds: f64,
    pub(super) seed: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            rpm: None,
            tpm: None,
            words: ALL,
            retry_after: true,
            latency: (1.0, 0.3),
            slots: None,
            stray: 0.0,
            at_once: None,
            others: |_| 0.0,
            limit_at: |_| 1.0,
            tokens: (500.0, 0.5),
            scale: 0.6,
            concurrency: None,
            remembered: Rates::default(),
            seconds: 240.0,
            seed: 1,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    /// When calls were let in, and the tokens counted for each; when they were refused.
    pub(super) served: Vec<(f64, f64)>,
    pub(super) refused: Vec<f64>,
    /// How many could be under way, by the second.
    pub(super) allowed: Vec<u32>,
    pub(super) answered: u64,
    pub(super) learned: Rates,
}

impl Came {
    fn within(&self, (from, to): (f64, f64)) -> impl Iterator<Item = &(f64, f64)> {
        self.served.iter().filter(move |(at, _)| (from..to).contains(at))
    }

    pub(super) fn rpm(&self, span: (f64, f64)) -> f64 {
        self.within(span).count() as f64 * 60.0 / (span.1 - span.0)
    }

    pub(super) fn tpm(&self, span: (f64, f64)) -> f64 {
        self.within(span).map(|(_, tokens)| tokens).sum::<f64>() * 60.0 / (span.1 - span.0)
    }

    /// Returns the share of calls that were refused.
    pub(super) fn share_refused(&self, span: (f64, f64)) -> f64 {
        let refused = self.refused.iter().filter(|at| (span.0..span.1).contains(*at)).count();
        refused as f64 / (self.within(span).count() + refused).max(1) as f64
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Arrives,
    Answered { seen: [LimitSeen; 2] },
    Refused { seen: [LimitSeen; 2], asked: Option<Duration> },
}

#[derive(Clone, Copy, Debug)]
struct Call {
    number: u64,
    sent: f64,
    guess: f64,
}

struct Run<'a> {
    scene: &'a Scene,
    rng: fastrand::Rng,
    meters: [Option<Meter>; 2],
    /// When each slot is free.
    slots: BinaryHeap<Reverse<u64>>,
    at_once: usize,
    others_at: f64,
    replies: u64,
    came: Came,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    calls: Vec<(Call, Event)>,
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Sends without end to a provider, for as long as the scene lasts.
pub(super) fn run(scene: &Scene) -> Came {
    let meter = |of: Option<(Shape, f64)>| of.map(|(shape, limit)| Meter::new(shape, limit));
    let mut run = Run {
        scene,
        rng: fastrand::Rng::with_seed(scene.seed),
        meters: [meter(scene.rpm), meter(scene.tpm)],
        slots: (0..scene.slots.unwrap_or(0)).map(|_| Reverse(0)).collect(),
        at_once: 0,
        others_at: 0.0,
        replies: 0,
        came: Came::default(),
        events: BinaryHeap::new(),
        calls: Vec::new(),
    };
    let settings = PaceSettings { concurrency: scene.concurrency, ..PaceSettings::default() };
    let mut pace = Pace::new(settings, scene.remembered);
    let mut now = 0.0;
    let mut next_guess = run.guess();
    while now < scene.seconds {
        while run.came.allowed.len() <= now as usize {
            run.came.allowed.push(pace.allowed());
        }
        let wake = loop {
            match pace.ask(Duration::from_secs_f64(now), next_guess as u64) {
                Permit::Go => {
                    let number = pace.start(Duration::from_secs_f64(now), next_guess as u64);
                    let call = Call { number, sent: now, guess: next_guess };
                    let net = run.net();
                    run.push(now + net, call, Event::Arrives);
                    next_guess = run.guess();
                }
                Permit::Wait(wait) => break Some(now + wait.as_secs_f64()),
                Permit::Full => break None,
            }
        };
        let next = run.events.peek().map(|Reverse((at, _))| *at as f64 / 1e9);
        now = match (next, wake) {
            (Some(next), Some(wake)) if wake < next => {
                now = wake;
                continue;
            }
            (Some(next), _) => next,
            (None, Some(wake)) => {
                now = wake;
                continue;
            }
            (None, None) => panic!("stuck: full with nothing in flight"),
        };
        let Reverse((_, index)) = run.events.pop().unwrap();
        let (call, event) = run.calls[index];
        run.happens(now, call, event, &mut pace);
    }
    run.came.learned = pace.learned();
    run.came
}

impl Run<'_> {
    fn net(&mut self) -> f64 {
        0.01 + 0.03 * self.rng.f64()
    }

    fn guess(&mut self) -> f64 {
        let (mean, spread) = self.scene.tokens;
        (mean * (1.0 + spread * (2.0 * self.rng.f64() - 1.0))).max(1.0).floor()
    }

    fn push(&mut self, at: f64, call: Call, event: Event) {
        self.calls.push((call, event));
        self.events.push(Reverse((nanos(at), self.calls.len() - 1)));
    }

    fn happens(&mut self, now: f64, call: Call, event: Event, pace: &mut Pace) {
        let (how, seen) = match event {
            Event::Arrives => return self.arrives(now, call),
            Event::Answered { seen } => {
                self.at_once -= 1;
                self.came.answered += 1;
                let late = self.scene.words.is_late.then(|| self.words(now));
                (Landing::Served, late.unwrap_or(seen))
            }
            Event::Refused { seen, asked } => {
                let class = FailureClass::RateLimited;
                (Landing::Failed(Failed { class, asked, is_first_try: true }), seen)
            }
        };
        let landed = Landed {
            number: call.number,
            took: Duration::from_secs_f64(now - call.sent),
            guessed: call.guess as u64,
            counted: Some((call.guess * 0.7) as u64),
            requests: seen[0],
            tokens: seen[1],
            how,
        };
        let jitter = self.rng.f64();
        pace.land(Duration::from_secs_f64(now), &landed, jitter);
    }

    fn arrives(&mut self, now: f64, call: Call) {
        let scene = self.scene;
        let cost = [1.0, (call.guess * scene.scale).round()];
        let others = (now - self.others_at) * (scene.others)(now) / 60.0;
        self.others_at = now;
        for (meter, given) in self.meters.iter_mut().zip([scene.rpm, scene.tpm]) {
            let Some(meter) = meter else { continue };
            meter.per_minute = given.unwrap().1 * (scene.limit_at)(now);
            let left = meter.left(now);
            meter.take(now, (others * meter.per_minute).min(left.max(0.0)));
        }
        let mut wait: Option<f64> = None;
        for (meter, cost) in self.meters.iter_mut().zip(cost) {
            if let Some(meter) = meter
                && meter.left(now) < cost - 1e-6
            {
                let of_this = meter.wait(now, cost);
                wait = Some(wait.map_or(of_this, |wait| wait.max(of_this)));
            }
        }
        let is_stray = scene.stray > 0.0 && self.rng.f64() < scene.stray;
        if is_stray || scene.at_once.is_some_and(|most| self.at_once >= most) {
            wait = Some(1.0);
        }
        if let Some(wait) = wait {
            self.came.refused.push(now);
            let asked = scene.retry_after.then(|| Duration::from_secs_f64(wait.max(0.0)));
            let (seen, back) = (self.words(now), now + self.net());
            return self.push(back, call, Event::Refused { seen, asked });
        }
        for (meter, cost) in self.meters.iter_mut().zip(cost) {
            if let Some(meter) = meter {
                meter.take(now, cost);
            }
        }
        self.came.served.push((now, cost[1]));
        self.at_once += 1;
        let (mean, spread) = scene.latency;
        let takes = mean * (1.0 + spread * (2.0 * self.rng.f64() - 1.0));
        let done = match self.slots.pop() {
            Some(Reverse(free)) => {
                let done = nanos(now).max(free) + nanos(takes);
                self.slots.push(Reverse(done));
                done as f64 / 1e9
            }
            None => now + takes,
        };
        let seen = self.words(now);
        let back = done + self.net();
        self.push(back, call, Event::Answered { seen });
    }

    fn words(&mut self, now: f64) -> [LimitSeen; 2] {
        let words = self.scene.words;
        self.replies += 1;
        if !self.replies.is_multiple_of(words.every) {
            return [LimitSeen::default(); 2];
        }
        [0, 1].map(|index| {
            let Some(meter) = &mut self.meters[index] else { return LimitSeen::default() };
            let left = meter.left(now).max(0.0);
            LimitSeen {
                per_minute: words.limit.then(|| (meter.per_minute * words.lie).round()),
                remaining: words.remaining.then(|| (left * words.lie).floor()),
                reset: words.reset.then(|| Duration::from_secs_f64(meter.reset(now).max(0.0))),
            }
        })
    }
}
