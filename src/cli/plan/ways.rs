//! By which way the due requests of each prompt would go, and how many batches they would make.

use std::collections::HashMap;

use super::estimate::{Cost, Sample, Subject};
use super::time::Rates;
use super::wish::Wish;
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::server;
use crate::cli::tasks;
use crate::cli::text::parse_duration;
use crate::domain::Route;
use crate::machine::batch::{Step, step};
use crate::machine::forecast::Forecast;
use crate::machine::packing::{BatchLimits, Load};
use crate::machine::plan::Left;
use crate::machine::queue::Queue;
use crate::machine::route::{Asked, Choice, HasBatches, Oversized, choose};
use crate::store::{BatchRecord, PromptRecord, Store, StoreError};

/// What is left of one prompt, by which way it would go, and what it would take.
pub(crate) struct PromptPlan {
    pub(crate) prompt: PromptRecord,
    /// Where its requests go.
    pub(crate) place: server::Place,
    pub(crate) left: Left,
    pub(crate) has_batches: HasBatches,
    pub(crate) choice: Choice,
    pub(crate) ways: Split,
    pub(super) sample: Sample,
    pub(super) rates: Rates,
}

/// How many of a prompt's due requests would go by which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Those that are taken up: all that are due, or as many as a person allowed.
    pub(crate) taken_up: u64,
    /// Those that get a place in a batch.
    pub(crate) in_batches: u64,
    /// The batches that they are in.
    pub(crate) batches: u64,
    /// Those of the batches that no prompt before this one has a request in.
    pub(crate) new_batches: u64,
    /// What the largest of the batches holds of them.
    pub(crate) largest: Load,
    /// Those that go by calls, the one ahead and those without room among them.
    pub(crate) calls: u64,
    /// Whether one goes ahead, to see whether the provider takes it.
    pub(crate) is_canary_sent: bool,
    /// Those that no batch, or the provider's queue, has room for.
    pub(crate) no_room: u64,
    /// Those of them that are kept until there is room.
    pub(crate) waiting: u64,
    /// What the provider's queue takes, where that is known.
    pub(crate) queue: Option<QueueRoom>,
}

/// What a provider's queue takes for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueRoom {
    /// Tokens that may wait in it.
    pub(crate) tokens: u64,
    /// Tokens that wait in it already.
    pub(crate) enqueued: u64,
    /// Whether it is as narrow as that because a person asked for it.
    pub(crate) is_asked_for: bool,
}

impl PromptPlan {
    /// Returns what the requests that are taken up cost by the way that they go.
    pub(crate) fn cost(&self) -> Cost {
        let Split { calls, in_batches, waiting, .. } = self.ways;
        self.sample.by_calls(calls).and(self.sample.in_batches(in_batches + waiting))
    }

    /// Returns what all that are taken up would cost by calls.
    pub(crate) fn cost_by_calls(&self) -> Cost {
        self.sample.by_calls(self.ways.taken_up)
    }

    /// Returns what all that are taken up would cost in batches; `None` where there are none.
    pub(crate) fn cost_in_batches(&self) -> Option<Cost> {
        (self.has_batches != HasBatches::No).then(|| self.sample.in_batches(self.ways.taken_up))
    }
}

/// The requests of one model at one server.
struct Lane {
    due: u64,
    prompts: u64,
    forecast: Forecast,
    queue: Option<QueueRoom>,
}

/// Counts what is left of every live prompt, and chooses the ways, with the same code for `plan`, `run` and
/// `run --dry-run`.
pub(super) fn plans(
    store: &Store,
    wish: &Wish<'_>,
    open: &[BatchRecord],
    context: &Context,
) -> Result<Vec<PromptPlan>, Failure> {
    let project = store.project()?;
    let base_url = wish.base_url.or(project.base_url.as_deref());
    let prompts = store.live_prompts()?;
    let lefts = store.left(&prompts, wish.in_doubt, wish.liveness)?;
    let mut lanes: HashMap<(String, String), Lane> = HashMap::new();
    let mut places = Vec::new();
    for (prompt, left) in prompts.iter().zip(&lefts) {
        let place = tasks::place_of(prompt, base_url, context)?;
        let of = (server::name(&place).to_owned(), prompt.spec.model.to_string());
        // Prompts on the same model at the same server share its batches.
        let lane = match lanes.entry(of.clone()) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(lane(store, (&of.0, prompt), wish, open)?)
            }
        };
        lane.due += left.due();
        lane.prompts += 1;
        places.push((place, of));
    }
    let mut allowed = wish.ways.limit.unwrap_or(u64::MAX);
    let mut plans = Vec::new();
    for ((prompt, left), (place, of)) in prompts.into_iter().zip(lefts).zip(places) {
        let has_batches = server::has_batches(server::provider(&prompt.spec.model)?, &place);
        let Some(lane) = lanes.get_mut(&of) else { continue };
        let most = match wish.ways.sample {
            Some(rows) => rows.saturating_mul(lane.prompts),
            None => wish.ways.limit.unwrap_or(u64::MAX),
        };
        let due = lane.due.min(most);
        let choice = choose(wish.ways.route.into(), has_batches, due);
        let sample = if left.due() == 0 {
            Sample::nothing(&prompt, wish.prices.of_prompt(&prompt.spec))
        } else {
            let policy = project.policy(&prompt.spec, wish.in_doubt);
            let parts = &tasks::parts(&prompt, policy, wish.prices)?;
            let (liveness, prompt) = (wish.liveness, &prompt);
            Sample::of(store, Subject { prompt, parts, policy, liveness, left }, wish.look)?
        };
        let rates = rates(store, (&of.0, &prompt), wish)?;
        let taken_up = left.due().min(wish.ways.sample.unwrap_or(u64::MAX)).min(allowed);
        allowed -= taken_up;
        let is_new = || -> Result<bool, StoreError> {
            let is_wanted = wish.canary && Asked::from(wish.ways.route) == Asked::Auto;
            Ok(is_wanted && left.answered == 0 && !store.has_been_in_a_batch(prompt.id)?)
        };
        let is_canary_sent = choice.route == Route::Batch && taken_up > 0 && is_new()?;
        let mut plan = PromptPlan {
            prompt,
            place,
            left,
            has_batches,
            choice,
            ways: Split { taken_up, is_canary_sent, ..Split::default() },
            sample,
            rates,
        };
        plan.ways = lane.split(&plan, wish.ways.oversized.into());
        plans.push(plan);
    }
    Ok(plans)
}

/// Asks how fast a model is at its server.
fn rates(
    store: &Store,
    (server, prompt): (&str, &PromptRecord),
    wish: &Wish<'_>,
) -> Result<Rates, Failure> {
    let model = prompt.spec.model.to_string();
    let calls = store.call_times_ms(&model)?;
    let mut batches = store.batch_times_ms((server, &model))?;
    batches.sort_unstable();
    let profile = server::provider(&prompt.spec.model)?.batches;
    Ok(Rates {
        asked: wish.speed,
        learned: store.rate_limit(server, &model)?,
        call_ms: (!calls.is_empty())
            .then(|| (calls.iter().sum::<u64>() as f64 / calls.len() as f64, calls.len() as u64)),
        batch_ms: batches.get(batches.len() / 2).copied(),
        window: profile.and_then(|profile| parse_duration(profile.window).ok()),
    })
}

fn lane(
    store: &Store,
    (server, prompt): (&str, &PromptRecord),
    wish: &Wish<'_>,
    open: &[BatchRecord],
) -> Result<Lane, Failure> {
    let model = prompt.spec.model.to_string();
    let asked = wish.ways.most();
    let known = store.queue_limit(server, &model)?;
    let queue = asked.tokens.map(Queue::configured).unwrap_or_default().and_learned(known);
    let is_enqueued = |batch: &&BatchRecord| {
        batch.new.server == server
            && batch.new.model == model
            && !matches!(step(batch.status), Step::Collect | Step::Rest)
    };
    let enqueued = open.iter().filter(is_enqueued).map(|batch| batch.tokens).sum();
    let profile = server::provider(&prompt.spec.model)?.batches;
    let least = |asked: Option<u64>, most: Option<u64>| {
        asked.into_iter().chain(most).min().unwrap_or(u64::MAX)
    };
    let limits = BatchLimits {
        requests: least(asked.requests, profile.map(|profile| profile.max_requests)),
        bytes: least(asked.bytes, profile.map(|profile| profile.max_bytes)),
        tokens: queue.limit(),
    };
    Ok(Lane {
        due: 0,
        prompts: 0,
        forecast: Forecast::new(limits, enqueued),
        queue: queue.limit().map(|tokens| QueueRoom {
            tokens,
            enqueued,
            is_asked_for: asked.tokens == Some(tokens),
        }),
    })
}

impl Lane {
    /// Says by which way the requests of a prompt go.
    fn split(&mut self, plan: &PromptPlan, oversized: Oversized) -> Split {
        let split = Split { queue: self.queue, ..plan.ways };
        if plan.choice.route == Route::Realtime {
            return Split { calls: split.taken_up, ..split };
        }
        let ahead = u64::from(split.is_canary_sent);
        let endpoint = plan.prompt.spec.endpoint;
        let packed = self.forecast.take(endpoint, split.taken_up - ahead, plan.sample.line());
        let (crossing, waiting) = match oversized {
            Oversized::Realtime => (packed.no_room, 0),
            Oversized::Wait => (0, packed.no_room),
            Oversized::Fail => (0, 0),
        };
        Split {
            in_batches: packed.in_batches,
            batches: packed.batches,
            new_batches: packed.new_batches,
            largest: packed.largest,
            calls: ahead + crossing,
            no_room: packed.no_room,
            waiting,
            ..split
        }
    }
}
