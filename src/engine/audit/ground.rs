//! What is known before requests are read, and what is counted while they are.

use std::collections::HashMap;

use super::finding::{Check, Finding};
use super::recipe::Recipes;
use crate::domain::{BatchEnd, Endpoint, Usage};
use crate::engine::task::Prices;
use crate::machine::plan::Liveness;
use crate::machine::prices::Terms;
use crate::store::{AttemptEvidence, BatchEvidence, DictionaryEvidence, RunEvidence};

/// How far clocks may be set back before a time is taken to be wrong: one hour.
const CLOCK_TOLERANCE_MS: i64 = 3_600_000;

/// What every thread knows.
pub(super) struct Ground {
    pub(super) recipes: Recipes,
    pub(super) runs: HashMap<i64, RunGround>,
    /// When each run started, and which it is, in the order of time.
    pub(super) starts: Vec<(i64, i64)>,
    pub(super) batches: HashMap<i64, BatchGround>,
    /// Of each dictionary, whose it is and what for.
    pub(super) dictionaries: HashMap<i64, (i64, String)>,
    pub(super) liveness: Liveness,
    pub(super) created_at_ms: i64,
    pub(super) now_ms: i64,
    /// Whether every run was made by this very version, whose words for errors are known.
    pub(super) knows_all_words: bool,
}

/// A run, as far as attempts need it.
pub(super) struct RunGround {
    started_at_ms: i64,
    ended_at_ms: Option<i64>,
    /// Whether it was made by this very version.
    pub(super) knows_words: bool,
    /// What the tokens of each prompt cost in it, where it has said.
    prices: Option<HashMap<i64, Prices>>,
}

impl RunGround {
    pub(super) fn of(run: &RunEvidence) -> Self {
        Self {
            started_at_ms: run.started_at_ms,
            ended_at_ms: run.ended_at_ms,
            knows_words: run.program_version == env!("CARGO_PKG_VERSION"),
            prices: run.prices.as_deref().and_then(prices),
        }
    }

    /// Says whether a time at which it made something is too far out of it.
    pub(super) fn is_outside(&self, at_ms: i64) -> bool {
        at_ms < self.started_at_ms.saturating_sub(CLOCK_TOLERANCE_MS)
            || self.ended_at_ms.is_some_and(|ended| is_before(ended, at_ms))
    }
}

/// Reads the prices that a run has put beside its settings.
fn prices(text: &str) -> Option<HashMap<i64, Prices>> {
    let terms: HashMap<String, Option<Terms>> = serde_json::from_str(text).ok()?;
    let price = |(prompt, terms): (String, Option<Terms>)| {
        // Nothing is left open in them that a provider would fill in.
        let prices = terms.map(|terms| Prices::from(terms.listed(""))).unwrap_or_default();
        Some((prompt.parse().ok()?, prices))
    };
    terms.into_iter().map(price).collect()
}

/// A batch, as far as attempts need it.
pub(super) struct BatchGround {
    pub(super) token: String,
    pub(super) model: String,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) ended: Option<BatchEnd>,
    pub(super) has_output: bool,
    pub(super) has_errors: bool,
}

impl BatchGround {
    pub(super) fn of(batch: &BatchEvidence) -> Self {
        Self {
            token: batch.token.clone(),
            model: batch.model.clone(),
            endpoint: Endpoint::parse(&batch.endpoint),
            ended: batch.ended.as_deref().and_then(BatchEnd::parse),
            has_output: batch.output_file_id.is_some(),
            has_errors: batch.error_file_id.is_some(),
        }
    }
}

impl Ground {
    /// Returns what the tokens of an attempt cost in the run that settled it, as far as that has said.
    pub(super) fn prices(&self, attempt: &AttemptEvidence, prompt: i64) -> Option<Prices> {
        let settled_by = match attempt.batch_id.and(attempt.settled_at_ms) {
            None => attempt.run_id,
            Some(at_ms) => {
                let begun = self.starts.partition_point(|(start, _)| *start <= at_ms);
                self.starts[..begun].last().map_or(attempt.run_id, |(_, run)| *run)
            }
        };
        self.runs.get(&settled_by)?.prices.as_ref()?.get(&prompt).copied()
    }

    /// Returns what an attempt's reply counts as far as the run that settled it could read it, and whether that is on record:
    /// those that have not said their prices knew nothing of what is put into the cache.
    pub(super) fn usage(
        &self,
        attempt: &AttemptEvidence,
        prompt: i64,
        read: Option<Usage>,
    ) -> (Option<Usage>, bool) {
        let knew_writes =
            attempt.cache_write_tokens.is_some() || self.prices(attempt, prompt).is_some();
        let tokens = |count: u64| i64::try_from(count).ok();
        let Some(mut usage) = read else { return (None, attempt.counts() == [None; 5]) };
        let written = tokens(usage.cache_write).filter(|_| knew_writes);
        if !knew_writes {
            usage.cache_write = 0;
        }
        let Usage { input, cached, cache_write: _, output, reasoning } = usage;
        let counts = [tokens(input), tokens(cached), written, tokens(output), tokens(reasoning)];
        (Some(usage), attempt.counts() == counts)
    }

    /// Says what is wrong with a time, if it cannot be.
    pub(super) fn wrong_time(&self, what: &str, at_ms: i64) -> Option<Finding> {
        let words = if at_ms < self.created_at_ms.saturating_sub(CLOCK_TOLERANCE_MS) {
            "is before the project was made"
        } else if at_ms > self.now_ms.saturating_add(CLOCK_TOLERANCE_MS) {
            "has not come yet"
        } else {
            return None;
        };
        Some(Finding::new(Check::Time, format!("the time at which {what} {words}")))
    }

    pub(super) fn dictionary_problem(
        &self,
        id: Option<i64>,
        prompt: i64,
        kind: &str,
    ) -> Option<String> {
        let id = id?;
        match self.dictionaries.get(&id) {
            Some((owner, of)) if *owner != prompt || of != kind => Some(format!(
                "it is packed with dictionary {id}, which is not one for a {kind} of its prompt"
            )),
            Some(_) | None => None,
        }
    }

    pub(super) fn dictionary(evidence: &DictionaryEvidence) -> (i64, (i64, String)) {
        (evidence.id, (evidence.prompt_id, evidence.kind.clone()))
    }
}

/// Says whether `first` is before `second`, by more than clocks are set back.
pub(super) fn is_before(first: i64, second: i64) -> bool {
    first.saturating_add(CLOCK_TOLERANCE_MS) < second
}

/// What is counted while requests are read; each thread has its own.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) attempts: u64,
    pub(super) replies: u64,
    /// Plain bytes of bodies and replies.
    pub(super) bytes: u64,
    /// Of each run, the first and the last attempt that it made.
    pub(super) runs: HashMap<i64, (i64, i64)>,
    pub(super) batches: HashMap<i64, BatchTally>,
    pub(super) prompts: HashMap<i64, PromptTally>,
    pub(super) prices: HashMap<PriceGroup, PriceTally>,
    pub(super) tried_again: Bought,
    pub(super) asked_again: Bought,
}

/// One run, prompt and route: within it a token costs the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PriceGroup {
    pub(super) run: i64,
    pub(super) prompt: i64,
    pub(super) is_batch: bool,
}

/// How the costs of such a group compare with the price that this program knows.
#[derive(Debug, Default)]
pub(super) struct PriceTally {
    pub(super) listed: u64,
    /// Those that have another cost, the first few of them.
    pub(super) others: Vec<Finding>,
    pub(super) other: u64,
    /// Those whose cost is not known.
    pub(super) unknown: Vec<Finding>,
    pub(super) unpriced: u64,
}

/// How many findings wait for what others of their group say.
pub(super) const WAITING: usize = 20;

impl PriceTally {
    fn merge(&mut self, other: Self) {
        self.listed += other.listed;
        self.other += other.other;
        self.unpriced += other.unpriced;
        self.others.extend(other.others);
        self.unknown.extend(other.unknown);
    }
}

/// What the attempts of a batch come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchTally {
    pub(super) places: i64,
    pub(super) open: i64,
    pub(super) line_bytes: i64,
    /// Whether the bytes of some line are not known.
    pub(super) is_uncertain: bool,
    /// Its first attempt: id, when it was promised, in which run.
    pub(super) first: Option<(i64, i64, i64)>,
}

impl BatchTally {
    fn merge(&mut self, other: Self) {
        self.places += other.places;
        self.open += other.open;
        self.line_bytes += other.line_bytes;
        self.is_uncertain |= other.is_uncertain;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// What the attempts of a prompt come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PromptTally {
    /// Attempts in doubt that nobody sent again.
    pub(super) in_doubt: u64,
    /// Attempts in doubt that were sent again.
    pub(super) sent_again: u64,
    /// Realtime attempts with text whose cost is known.
    pub(super) priced: u64,
    /// What those cost.
    pub(super) cost: i64,
    /// When the first attempt was promised whose schema was refused.
    pub(super) schema_refused_ms: Option<i64>,
    /// When the first attempt was promised that asked in words instead of by schema.
    pub(super) first_words_ms: Option<i64>,
}

impl PromptTally {
    fn merge(&mut self, other: Self) {
        let earlier = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
        *self = Self {
            in_doubt: self.in_doubt + other.in_doubt,
            sent_again: self.sent_again + other.sent_again,
            priced: self.priced + other.priced,
            cost: self.cost.saturating_add(other.cost),
            schema_refused_ms: earlier(self.schema_refused_ms, other.schema_refused_ms),
            first_words_ms: earlier(self.first_words_ms, other.first_words_ms),
        };
    }
}

/// Attempts that were paid for beside the one that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bought {
    /// Requests that have such attempts.
    pub requests: u64,
    /// How many such attempts there are.
    pub attempts: u64,
    /// What they cost, as far as it is known, in nano-USD.
    pub cost_nanousd: i64,
    /// How many of them have a cost that is not known.
    pub unpriced: u64,
}

impl Bought {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.attempts += other.attempts;
        self.cost_nanousd = self.cost_nanousd.saturating_add(other.cost_nanousd);
        self.unpriced += other.unpriced;
    }
}

impl Tally {
    /// Takes in all of another's.
    pub(super) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.attempts += other.attempts;
        self.replies += other.replies;
        self.bytes += other.bytes;
        for (run, (first, last)) in other.runs {
            self.attempt_of_run(run, first);
            self.attempt_of_run(run, last);
        }
        for (batch, tally) in other.batches {
            self.batches.entry(batch).or_default().merge(tally);
        }
        for (prompt, tally) in other.prompts {
            self.prompts.entry(prompt).or_default().merge(tally);
        }
        for (group, tally) in other.prices {
            self.prices.entry(group).or_default().merge(tally);
        }
        self.tried_again.add(other.tried_again);
        self.asked_again.add(other.asked_again);
    }

    /// Notes an attempt of a run.
    pub(super) fn attempt_of_run(&mut self, run: i64, attempt: i64) {
        let (first, last) = self.runs.entry(run).or_insert((attempt, attempt));
        *first = attempt.min(*first);
        *last = attempt.max(*last);
    }
}
