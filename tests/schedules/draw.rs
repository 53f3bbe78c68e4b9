//! What a seed makes of everything.

use std::time::Duration;

use fastrand::Rng;
use overnight::domain::Oversized;
use overnight::machine::route::Asked;
use overnight::simulate::{Fault, Moment};

/// A schedule, before anything of it has happened.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) rows: usize,
    /// Texts that differ.
    pub(crate) texts: usize,
    pub(crate) words: usize,
    pub(crate) prompts: usize,
    /// Whether the second prompt is another model's.
    pub(crate) two_models: bool,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) max_attempts: u32,
    /// What goes wrong at the provider, as text.
    pub(crate) faults: String,
    pub(crate) latency: Duration,
    pub(crate) rpm: Option<u32>,
    pub(crate) batch_delay: Duration,
    pub(crate) batch_window: Duration,
    pub(crate) enqueued_tokens: Option<u64>,
    pub(crate) loss: Loss,
    /// What may be spent in all, in nano-USD.
    pub(crate) max_cost: Option<i64>,
}

/// What the way to the provider does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// The share of requests that never arrive.
    pub(crate) requests: f64,
    /// The share of replies that never arrive.
    pub(crate) replies: f64,
    /// The longest that a request or a reply is on its way.
    pub(crate) longest: Duration,
}

/// How one run of a schedule is to go.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) asked: Asked,
    pub(crate) oversized: Oversized,
    pub(crate) batch_requests: u64,
    pub(crate) batch_tokens: Option<u64>,
    pub(crate) waits: bool,
    pub(crate) poll: Duration,
    pub(crate) concurrency: Option<u32>,
    pub(crate) limit: Option<u64>,
    /// Until when batches have time, from the run's start.
    pub(crate) by: Option<Duration>,
    pub(crate) cancels: bool,
    pub(crate) interrupted_at: Option<u64>,
    /// When the process dies, from the run's start.
    pub(crate) dies_at: Option<Duration>,
}

fn one_of<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())].clone()
}

fn now_and_then<T>(rng: &mut Rng, one_in: u32, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (rng.u32(..one_in) == 0).then(|| value(rng))
}

const NO_TIME: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

impl Scene {
    pub(crate) fn draw(rng: &mut Rng, seed: u64) -> Self {
        // By luck of its own, so that it changes nothing else of a schedule.
        let mut luck = Rng::with_seed(seed ^ 0x00B0_D6E7);
        let rows = if rng.u8(..20) == 0 { rng.usize(40..120) } else { rng.usize(1..20) };
        let loss = Loss {
            requests: one_of(rng, &[0.0, 0.0, 0.05, 0.3]),
            replies: one_of(rng, &[0.0, 0.0, 0.05, 0.3]),
            longest: one_of(rng, &[NO_TIME, SECOND / 20, 2 * SECOND, 30 * SECOND]),
        };
        Self {
            rows,
            texts: if rng.bool() { rows } else { rng.usize(1..=rows) },
            words: one_of(rng, &[0, 3, 40]),
            prompts: if rng.u8(..3) == 0 { 2 } else { 1 },
            two_models: rng.bool(),
            max_tokens: one_of(rng, &[None, Some(4), Some(64)]),
            max_attempts: one_of(rng, &[1, 3, 5]),
            faults: faults(rng),
            latency: one_of(rng, &[NO_TIME, SECOND / 5, 20 * SECOND]),
            rpm: now_and_then(rng, 6, |rng| rng.u32(5..60)),
            batch_delay: one_of(rng, &[NO_TIME, NO_TIME, 20 * SECOND, HOUR, 20 * HOUR]),
            batch_window: one_of(rng, &[24 * HOUR, 24 * HOUR, HOUR / 2]),
            enqueued_tokens: now_and_then(rng, 4, |rng| rng.u64(20..600)),
            loss,
            // From next to nothing to more than is needed.
            max_cost: now_and_then(&mut luck, 3, |luck| {
                (rows as f64 * 10f64.powf(3.0 + 2.5 * luck.f64())) as i64
            }),
        }
    }
}

/// Some faults, at rates that leave a way through.
fn faults(rng: &mut Rng) -> String {
    let count = one_of(rng, &[0, 1, 2, 3, 6]);
    let mut drawn: Vec<Fault> = Vec::new();
    for _ in 0..count {
        let fault = one_of(rng, &Fault::ALL);
        if !drawn.contains(&fault) {
            drawn.push(fault);
        }
    }
    let each: Vec<String> = drawn
        .iter()
        .map(|fault| {
            let when = match rng.u8(..4) {
                // Each of these ends a run.
                _ if matches!(
                    fault,
                    Fault::Quota | Fault::Unauthorized | Fault::Forbidden | Fault::ModelNotFound
                ) =>
                {
                    "first:2".to_owned()
                }
                0 => "first:1".to_owned(),
                // Both files are read again from the start: with two of them, every second one failing is no way through.
                1 if !fault.moments().contains(&Moment::Content) => {
                    format!("every:{}", rng.u8(2..6))
                }
                // Shares of one moment must not add up to more than all.
                _ => one_of(rng, &["0.02", "0.1", "0.16"]).to_owned(),
            };
            format!("{}={when}", fault.as_str())
        })
        .collect();
    each.join(",")
}

impl Way {
    /// The first of a schedule's runs, or one that goes on in some other way.
    pub(crate) fn draw(rng: &mut Rng, batch_delay: Duration) -> Self {
        // As often within the first second as within the last day.
        let some_time = |rng: &mut Rng| Duration::from_secs_f64(10f64.powf(rng.f64() * 8.0 - 3.0));
        Self {
            asked: one_of(
                rng,
                &[Asked::Batch, Asked::Batch, Asked::Batch, Asked::Realtime, Asked::Auto],
            ),
            oversized: one_of(
                rng,
                &[Oversized::Realtime, Oversized::Realtime, Oversized::Wait, Oversized::Fail],
            ),
            batch_requests: rng.u64(1..8),
            batch_tokens: now_and_then(rng, 8, |rng| rng.u64(20..600)),
            waits: rng.u8(..5) > 0,
            poll: SECOND.max(batch_delay.mul_f64(one_of(rng, &[0.02, 0.1, 0.4]))),
            concurrency: one_of(rng, &[None, Some(1), Some(4), Some(32)]),
            limit: now_and_then(rng, 10, |rng| rng.u64(1..10)),
            by: now_and_then(rng, 6, some_time),
            cancels: rng.u8(..10) == 0,
            interrupted_at: now_and_then(rng, 10, |rng| rng.u64(1..40)),
            dies_at: (rng.u8(..4) > 0).then(|| some_time(rng)),
        }
    }

    /// One that is left in peace, and goes to its end.
    pub(crate) fn to_the_end(asked: Asked, batch_delay: Duration) -> Self {
        Self {
            asked,
            oversized: Oversized::Realtime,
            batch_requests: 5,
            batch_tokens: None,
            waits: true,
            poll: SECOND.max(batch_delay / 10),
            concurrency: None,
            limit: None,
            by: None,
            cancels: false,
            interrupted_at: None,
            dies_at: None,
        }
    }
}
