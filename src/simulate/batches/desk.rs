//! All batches, oldest first, and the prompt tokens that are enqueued for each model.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::job::Job;
use crate::domain::UnixMs;
use crate::simulate::draws::Names;
use crate::simulate::ledger::lock;

/// A batch that several may look at; whoever moves it on holds it.
pub(super) type Shared = Arc<Mutex<Job>>;

/// All batches.
#[derive(Debug)]
pub(in crate::simulate) struct Desk {
    jobs: Mutex<Jobs>,
    enqueued: Mutex<HashMap<String, u64>>,
}

#[derive(Debug)]
struct Jobs {
    names: Names,
    by_number: BTreeMap<u64, (String, Shared)>,
    numbers: HashMap<String, u64>,
}

impl Desk {
    /// Makes an empty desk.
    pub(in crate::simulate) fn new(seed: u64, started: UnixMs) -> Self {
        let names = Names::new(seed, "batch", started);
        let jobs = Jobs { names, by_number: BTreeMap::new(), numbers: HashMap::new() };
        Self { jobs: Mutex::new(jobs), enqueued: Mutex::default() }
    }

    /// Returns the number of the next batch, and its id.
    pub(super) fn next_id(&self) -> (u64, String) {
        let (number, mut rng) = lock(&self.jobs).names.next();
        (number, format!("batch_{:032x}", rng.u128(..)))
    }

    /// Puts a batch in its place.
    pub(super) fn add(&self, number: u64, job: Job) -> Shared {
        let id = job.id.clone();
        let shared = Arc::new(Mutex::new(job));
        let mut jobs = lock(&self.jobs);
        jobs.numbers.insert(id.clone(), number);
        jobs.by_number.insert(number, (id, Arc::clone(&shared)));
        shared
    }

    /// Returns a batch.
    pub(super) fn get(&self, id: &str) -> Option<Shared> {
        let jobs = lock(&self.jobs);
        let (_, job) = jobs.by_number.get(jobs.numbers.get(id)?)?;
        Some(Arc::clone(job))
    }

    /// Takes a batch out of the list.
    pub(super) fn remove(&self, id: &str) -> Option<Shared> {
        let mut jobs = lock(&self.jobs);
        let number = jobs.numbers.remove(id)?;
        jobs.by_number.remove(&number).map(|(_, job)| job)
    }

    /// Returns all batches with their ids, oldest first.
    pub(super) fn all(&self) -> Vec<(String, Shared)> {
        lock(&self.jobs).by_number.values().cloned().collect()
    }

    /// Enqueues tokens for a model, unless there would be more than `most`.
    pub(super) fn enqueue(&self, model: &str, tokens: u64, most: u64) -> bool {
        let mut enqueued = lock(&self.enqueued);
        let sum = enqueued.entry(model.to_owned()).or_default();
        let fits = sum.saturating_add(tokens) <= most;
        if fits {
            *sum += tokens;
        }
        fits
    }

    /// Takes tokens out of the queue.
    pub(super) fn release(&self, model: &str, tokens: u64) {
        if let Some(sum) = lock(&self.enqueued).get_mut(model) {
            *sum = sum.saturating_sub(tokens);
        }
    }
}
