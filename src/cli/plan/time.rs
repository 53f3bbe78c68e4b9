//! How long it would take, and whether that is soon enough.
//!
//! Calls take what the limits allow, or what the answers on file took; where neither is known nobody guesses. Batches take
//! what earlier ones took, and at most the provider's window.

use std::time::Duration;

use super::PromptPlan;
use super::wish::Speed;
use crate::cli::text::{duration, thousands};
use crate::domain::{Route, UnixMs};
use crate::machine::pace::Rates as LearnedRates;

/// In flight at once where nobody said how many: at the start, and at most.
const AT_ONCE: (f64, f64) = (8.0, 256.0);

/// What is known of a model's speed at its server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    /// What a person allows.
    pub(super) asked: Speed,
    /// What the provider has told.
    pub(super) learned: LearnedRates,
    /// What a call takes on average, in milliseconds, and of how many that is the average.
    pub(super) call_ms: Option<(f64, u64)>,
    /// What earlier batches took, half of them less, in milliseconds.
    pub(super) batch_ms: Option<u64>,
    /// What the provider grants itself for a batch.
    pub(super) window: Option<Duration>,
}

/// A time between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl Span {
    pub(super) const NOTHING: Self = Self { least: Duration::ZERO, most: Duration::ZERO };

    pub(super) fn and_then(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most + other.most }
    }

    fn beside(self, other: Self) -> Self {
        Self { least: self.least.max(other.least), most: self.most.max(other.most) }
    }

    /// Returns words: `about 3 min 20 s`, or `between 2 s and 1 min 4 s`.
    pub(super) fn words(self) -> String {
        let whole = |time: Duration| match time.as_secs() {
            0 => duration(time),
            // Nobody needs the seconds of an hour.
            secs => duration(Duration::from_secs(secs + u64::from(time.subsec_millis() >= 500))),
        };
        if self.most < Duration::from_secs(1) {
            return "less than a second".to_owned();
        }
        match self.least == self.most {
            true => format!("about {}", whole(self.least)),
            false => format!("between {} and {}", whole(self.least), whole(self.most)),
        }
    }
}

impl Rates {
    /// Returns the requests and the tokens that may go in a minute.
    pub(super) fn limits(&self) -> (Option<u64>, Option<u64>) {
        let least = |asked: Option<u32>, learned: Option<u64>| {
            asked.map(u64::from).into_iter().chain(learned).min()
        };
        (least(self.asked.rpm, self.learned.requests), least(self.asked.tpm, self.learned.tokens))
    }

    /// Returns how long so many calls of so many tokens each take; `None` where nothing is known of the pace.
    pub(super) fn calls(&self, requests: u64, tokens_each: f64) -> Option<Span> {
        if requests == 0 {
            return Some(Span::NOTHING);
        }
        let (rpm, tpm) = self.limits();
        let minutes = |rate: f64| requests as f64 / rate.max(f64::MIN_POSITIVE) * 60.0;
        let by_requests = rpm.map(|rpm| minutes(rpm as f64));
        let by_tokens = tpm.map(|tpm| minutes(tpm as f64 / tokens_each.max(1.0)));
        let by_limits = by_requests.into_iter().chain(by_tokens).reduce(f64::max);
        // So many at once, each as long as a call takes; the last one has to come back too.
        let at_once = |at_once: f64| {
            let each = self.call_ms.map(|(each, _)| each / 1_000.0)?;
            Some(each * (requests as f64 / at_once).ceil())
        };
        let asked = self.asked.concurrency.map(f64::from);
        let fastest = at_once(asked.unwrap_or(AT_ONCE.1));
        let slowest = at_once(asked.unwrap_or(AT_ONCE.0));
        let (least, most) = match (by_limits, fastest, slowest) {
            (None, fastest, slowest) => (fastest?, slowest?),
            // The number at once grows until the limits say stop.
            (Some(limit), fastest, _) => {
                let time = limit.max(fastest.unwrap_or(0.0));
                (time, time)
            }
        };
        let secs = |secs: f64| Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX / 4);
        Some(Span { least: secs(least), most: secs(most) })
    }

    /// Returns what the time of calls stands on, in words.
    pub(super) fn basis(&self) -> String {
        let (rpm, tpm) = self.limits();
        let mut parts = Vec::new();
        for (limit, what, is_asked) in [
            (rpm, "requests", self.asked.rpm.map(u64::from) == rpm),
            (tpm, "tokens", self.asked.tpm.map(u64::from) == tpm),
        ] {
            let Some(limit) = limit else { continue };
            let by = if is_asked { "" } else { ", as the provider told" };
            parts.push(format!("{} {what} a minute{by}", thousands(limit)));
        }
        if let Some(at_once) = self.asked.concurrency {
            parts.push(format!("{} at once", thousands(u64::from(at_once))));
        }
        if let Some((each, of)) = self.call_ms {
            let of = if of == 1 { "1 call".to_owned() } else { format!("{} calls", thousands(of)) };
            let each = duration(Duration::from_millis(each.round() as u64));
            parts.push(format!("{each} a call over {of} so far"));
        }
        parts.join("; ")
    }
}

impl PromptPlan {
    /// Returns the tokens of one request that count against a limit.
    fn tokens_each(&self) -> f64 {
        let requests = self.ways.taken_up.max(1);
        let output = match self.sample.most_output(requests) {
            // Providers count what a request may use, not what it did.
            Some(most) if self.prompt.spec.max_tokens.is_some() => most,
            Some(_) | None => self.sample.output(requests),
        };
        (self.sample.input(requests) + output) as f64 / requests as f64
    }

    /// Returns how long so many of its requests take by calls; `None` where that is not known.
    pub(super) fn calls_take(&self, requests: u64) -> Option<Span> {
        self.rates.calls(requests, self.tokens_each())
    }

    /// Returns how long its batches take, going by earlier ones; `None` where there are none on file.
    pub(super) fn batches_take(&self) -> Option<Span> {
        let ways = self.ways;
        let each = self.rates.batch_ms.filter(|_| ways.in_batches > 0)?;
        // What waits for the queue goes once it has drained.
        let rounds = (ways.in_batches + ways.waiting).div_ceil(ways.in_batches);
        let all = Duration::from_millis(each.saturating_mul(rounds));
        Some(Span { least: all, most: all })
    }

    /// Returns how long all of it takes as it would go; `None` where that is not known.
    pub(super) fn takes(&self) -> Option<Span> {
        let calls = self.calls_take(self.ways.calls);
        match self.goes_in_batches() {
            true => Some(calls?.beside(self.batches_take()?)),
            false => calls,
        }
    }

    pub(super) fn goes_in_batches(&self) -> bool {
        self.choice.route == Route::Batch && self.ways.in_batches > 0
    }
}

/// Whether all can be done by a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: UnixMs,
    now: UnixMs,
    /// Whether it holds; `None` where nobody knows.
    pub(super) holds: Option<bool>,
    /// Whether batches are waited for until then.
    pub(super) has_batches: bool,
    /// How long calls for all that batches have not answered by then would take, after that time.
    pub(super) calls_after: Option<Span>,
    /// How long it takes if all goes as before.
    pub(super) takes: Option<Span>,
}

impl Deadline {
    /// Looks whether `plans` can be done by `at`; prompts on one model at one server go one after another.
    pub(super) fn new(plans: &[PromptPlan], (at, now): (UnixMs, UnixMs)) -> Self {
        let left = Duration::from_millis(u64::try_from(at.0 - now.0).unwrap_or(0));
        let has_batches = plans.iter().any(PromptPlan::goes_in_batches);
        let takes = together(plans, PromptPlan::takes);
        let calls_after = together(plans, |plan| match plan.goes_in_batches() {
            true => plan.calls_take(plan.ways.in_batches + plan.ways.waiting),
            false => Some(Span::NOTHING),
        });
        let window = plans
            .iter()
            .filter(|plan| plan.goes_in_batches())
            .map(|plan| plan.rates.window.filter(|_| plan.ways.waiting == 0));
        let window: Option<Duration> =
            window.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        let is_sure = has_batches && window.is_some_and(|window| window <= left);
        let holds = match takes {
            _ if is_sure => Some(true),
            Some(span) if span.most <= left => Some(true),
            Some(span) if span.least > left => Some(false),
            Some(_) | None => None,
        };
        Self { at, now, holds, has_batches, calls_after, takes }
    }

    /// Returns when all is answered at the latest, if batches have answered nothing at that time.
    pub(super) fn latest(&self) -> Option<UnixMs> {
        match self.has_batches {
            true => self.calls_after.map(|span| self.at.plus(span.most)),
            false => self.takes.map(|span| self.now.plus(span.most)),
        }
    }

    /// Returns the time to give instead, so that calls for what batches have not answered are done by `at`; `None`
    /// where it has passed or is not known.
    pub(super) fn give(&self) -> Option<UnixMs> {
        let before = self.calls_after.filter(|_| self.has_batches)?.most;
        let at = UnixMs(self.at.0 - i64::try_from(before.as_millis()).ok()?);
        (at > self.now).then_some(at)
    }
}

/// Adds up what the prompts of each lane take; lanes go side by side.
fn together(plans: &[PromptPlan], of: impl Fn(&PromptPlan) -> Option<Span>) -> Option<Span> {
    let mut lanes: Vec<((String, String), Span)> = Vec::new();
    for plan in plans.iter().filter(|plan| plan.ways.taken_up > 0) {
        let span = of(plan)?;
        let name =
            (crate::cli::server::name(&plan.place).to_owned(), plan.prompt.spec.model.to_string());
        match lanes.iter_mut().find(|(lane, _)| *lane == name) {
            Some((_, sum)) => *sum = sum.and_then(span),
            None => lanes.push((name, span)),
        }
    }
    Some(lanes.into_iter().fold(Span::NOTHING, |all, (_, span)| all.beside(span)))
}

/// Returns how long a run of all these prompts takes; `None` where that is not known.
pub(super) fn all_take(plans: &[PromptPlan]) -> Option<Span> {
    together(plans, PromptPlan::takes)
}
