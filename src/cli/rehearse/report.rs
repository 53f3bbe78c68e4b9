//! What a rehearsal came to, gathered from the copy's record and from what was noted on the way.

use std::time::Duration;

use super::Before;
use super::assumed::Assumed;
use super::notes::Noted;
use super::problems::{self, Trouble};
use crate::cli::failure::{Exit, Failure};
use crate::domain::{HowEnded, NanoUsd, Problem, PromptId, Route, RunId, UnixMs, Usage};
use crate::engine::Clock;
use crate::store::{PromptRecord, RouteSum, RunBatch, Store};

/// What was left when the rehearsed run had ended.
pub(super) struct Facts {
    pub(super) run: RunId,
    pub(super) how: HowEnded,
    /// Whether it was ended because it came to no end.
    pub(super) has_stalled: bool,
    pub(super) duration: Duration,
    pub(super) started_at: UnixMs,
    pub(super) noted: Noted,
    pub(super) assumed: Vec<Assumed>,
    /// The copy.
    pub(super) store: Store,
}

/// What went by one way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) requests: u64,
    pub(super) attempts: u64,
    pub(super) answered: u64,
    pub(super) usage: Usage,
    pub(super) cost: NanoUsd,
    /// Replies without a price.
    pub(super) unpriced: u64,
}

impl Sum {
    fn add(&mut self, sum: &RouteSum) {
        self.requests += sum.requests;
        self.attempts += sum.attempts;
        self.answered += sum.answered;
        self.usage += sum.usage;
        self.cost += sum.cost;
        self.unpriced += sum.unpriced;
    }

    /// Returns the cost, where all of it is known.
    pub(super) fn cost(&self) -> Option<NanoUsd> {
        (self.unpriced == 0).then_some(self.cost)
    }
}

/// A prompt and what went by each way of it.
pub(super) struct OfPrompt {
    pub(super) prompt: PromptRecord,
    pub(super) calls: Sum,
    pub(super) in_batches: Sum,
}

/// What a rehearsal came to.
pub(super) struct Report {
    pub(super) before: Before,
    pub(super) how: HowEnded,
    pub(super) noted: Noted,
    pub(super) assumed: Vec<Assumed>,
    pub(super) duration: Duration,
    /// When half of the answers were there, from the start.
    pub(super) half: Option<Duration>,
    /// When it would be done if it had been started when this was.
    pub(super) done_at: UnixMs,
    pub(super) calls: Sum,
    pub(super) in_batches: Sum,
    pub(super) prompts: Vec<OfPrompt>,
    pub(super) batches: Vec<RunBatch>,
    /// The most batches one after another.
    pub(super) waves: u64,
    pub(super) troubles: Vec<Trouble>,
    /// How long the rehearsal took by the machine's clock.
    pub(super) took: Duration,
}

impl Report {
    /// Gathers it.
    pub(super) fn make(before: Before, facts: Facts) -> Result<Self, Failure> {
        let store = &facts.store;
        let sums = store.route_sums(before.newest_attempt)?;
        let prompts = of_prompts(store.live_prompts()?, &sums);
        let (mut calls, mut in_batches) = (Sum::default(), Sum::default());
        for sum in &sums {
            of_route(sum.route, (&mut calls, &mut in_batches)).add(sum);
        }
        let since = |at: UnixMs| {
            Duration::from_millis(u64::try_from(at.0 - facts.started_at.0).unwrap_or(0))
        };
        let half = store.answer_times(before.newest_attempt)?.map(|(half, _)| since(half));
        let batches = store.run_batches(facts.run)?;
        let took = since(Clock::now());
        let troubles = problems::troubles(&facts);
        Ok(Self {
            waves: waves(&batches),
            before,
            how: facts.how,
            noted: facts.noted,
            assumed: facts.assumed,
            duration: facts.duration,
            half,
            done_at: facts.started_at.plus(facts.duration),
            calls,
            in_batches,
            prompts,
            batches,
            troubles,
            took,
        })
    }

    /// Counts the requests that came to no end.
    pub(super) fn left(&self) -> u64 {
        self.noted.due.saturating_sub(self.noted.done())
    }

    /// Returns the cost of all, where all of it is known.
    pub(super) fn cost(&self) -> Option<NanoUsd> {
        self.calls.cost().zip(self.in_batches.cost()).map(|(calls, batches)| calls + batches)
    }

    /// Sums the tokens.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = self.calls.usage;
        usage += self.in_batches.usage;
        usage
    }

    /// Says how the program ends.
    pub(super) fn exit(&self) -> Exit {
        match &self.how {
            HowEnded::Stopped(Problem::Budget { .. }) => Exit::Stopped,
            _ if self.left() + self.noted.failed + self.noted.truncated > 0 => Exit::SomeFailed,
            HowEnded::Done | HowEnded::SomeFailed | HowEnded::Waiting { .. } => Exit::Done,
            HowEnded::Stopped(_) => Exit::SomeFailed,
        }
    }
}

fn of_route<'a>(route: Route, (calls, in_batches): (&'a mut Sum, &'a mut Sum)) -> &'a mut Sum {
    match route {
        Route::Realtime => calls,
        Route::Batch => in_batches,
    }
}

fn of_prompts(prompts: Vec<PromptRecord>, sums: &[RouteSum]) -> Vec<OfPrompt> {
    let of = |prompt: PromptId, route: Route| {
        let mut sum = Sum::default();
        sums.iter()
            .filter(|one| one.prompt == prompt && one.route == route)
            .for_each(|one| sum.add(one));
        sum
    };
    let with_sums = |prompt: PromptRecord| OfPrompt {
        calls: of(prompt.id, Route::Realtime),
        in_batches: of(prompt.id, Route::Batch),
        prompt,
    };
    prompts.into_iter().map(with_sums).collect()
}

/// Counts the most batches of one model that went one after another: what a narrow queue makes of many.
pub(super) fn waves(batches: &[RunBatch]) -> u64 {
    let lanes: std::collections::BTreeSet<_> =
        batches.iter().map(|batch| (&batch.server, &batch.model)).collect();
    let longest = lanes.into_iter().map(|of| {
        let mut times: Vec<(UnixMs, UnixMs)> = batches
            .iter()
            .filter(|batch| (&batch.server, &batch.model) == of && batch.was_worked_on())
            .filter_map(|batch| batch.ended_at.zip(batch.created_at))
            .collect();
        // Whichever ends first leaves most room for others after it.
        times.sort_unstable();
        let (mut waves, mut last) = (0, UnixMs(i64::MIN));
        for (ended, created) in times {
            if created >= last {
                (waves, last) = (waves + 1, ended);
            }
        }
        waves
    });
    longest.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BatchEnd, BatchId};

    fn batch(model: &str, created: i64, ended: i64) -> RunBatch {
        RunBatch {
            id: BatchId(1),
            model: model.to_owned(),
            server: "s".to_owned(),
            requests: 1,
            tokens: 1,
            input_bytes: 1,
            planned_at: UnixMs(created),
            created_at: Some(UnixMs(created)),
            ended_at: Some(UnixMs(ended)),
            ended: None,
            error: None,
        }
    }

    #[test]
    fn waves_are_batches_of_one_model_that_wait_for_each_other() {
        assert_eq!(waves(&[]), 0);
        assert_eq!(waves(&[batch("a", 0, 10), batch("a", 1, 11), batch("a", 2, 12)]), 1);
        assert_eq!(waves(&[batch("a", 0, 10), batch("a", 10, 20), batch("a", 5, 15)]), 2);
        let three = [batch("a", 0, 9), batch("a", 9, 30), batch("a", 9, 12), batch("a", 12, 20)];
        assert_eq!(waves(&three), 3);
        assert_eq!(waves(&[batch("a", 0, 10), batch("b", 10, 20)]), 1, "of another model");
        let unended = RunBatch { ended_at: None, ..batch("a", 10, 20) };
        assert_eq!(waves(&[batch("a", 0, 10), unended]), 1);
        let refused = RunBatch { ended: Some(BatchEnd::Failed), ..batch("a", 10, 20) };
        assert_eq!(waves(&[batch("a", 0, 10), refused]), 1, "nothing came of it");
    }
}
