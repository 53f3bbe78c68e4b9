//! What may be sent under the budget, and what happens when nothing more may.
//!
//! What a job may cost is set aside before its promise is ordered, and stands in that promise. A job that finds no room under
//! the ceiling waits for what is under way: most of what is set aside comes back. Only where nothing can come back
//! any more does the run stop.

use super::Dispatcher;
use crate::domain::{NanoUsd, Problem};
use crate::engine::lane::Lane;
use crate::engine::task::Job;

impl Dispatcher {
    /// Sets aside what a job may cost.
    pub(super) fn set_aside(&mut self, job: &mut Job, most: Option<NanoUsd>) {
        job.reserved = most;
        self.outfit.budget.reserve(most.unwrap_or_default());
    }

    /// Gives back what was set aside for a job that is not sent after all.
    pub(super) fn give_back(&mut self, job: &mut Job) {
        if let Some(reserved) = job.reserved.take() {
            self.outfit.budget.release(reserved);
        }
    }

    /// Keeps a request that was to go into a batch until a batch has ended. What there is of its lane goes out.
    pub(super) fn wait_for_money(&mut self, lane: usize, job: Box<Job>) {
        self.outfit.desk.close(lane);
        let at = &mut self.outfit.desk.lanes[lane];
        at.lacks_money = true;
        // A run that does not wait leaves it to a later one.
        if self.outfit.desk.settings.waits {
            at.unfunded.push_back(job);
        }
    }

    /// Looks for places again for those who waited for money.
    pub(super) fn place_unfunded(&mut self, lane: usize) {
        let unfunded = std::mem::take(&mut self.outfit.desk.lanes[lane].unfunded);
        if unfunded.is_empty() {
            return;
        }
        self.outfit.desk.lanes[lane].lacks_money = false;
        for job in unfunded {
            match self.outfit.desk.lanes[lane].lacks_money {
                // The rest waits as it did: what is tried in vain closes the batch that takes the others.
                true => self.outfit.desk.lanes[lane].unfunded.push_back(job),
                false => self.place(lane, job),
            }
        }
        self.nothing_more_comes(lane);
    }

    /// Lets those go on who waited for money that calls have given back; stops the run where none can come back any more.
    pub(super) fn look_at_money(&mut self) {
        if self.stopped.is_some() || self.outfit.budget.ceiling().is_none() {
            return;
        }
        for lane in 0..self.outfit.desk.lanes.len() {
            let at = &self.outfit.desk.lanes[lane];
            let Some(job) = at.unfunded.front() else { continue };
            let most = self.most_in_a_batch(job);
            if self.outfit.budget.takes(most) && self.outfit.desk.has_none_under_way(lane) {
                self.place_unfunded(lane);
            }
        }
        let Some(ceiling) = self.outfit.budget.ceiling().filter(|_| self.is_out_of_money()) else {
            return;
        };
        let needed = self.needed();
        self.stop(Problem::Budget { ceiling, counted: self.outfit.budget.counted(), needed });
    }

    fn most_in_a_batch(&self, job: &Job) -> Option<NanoUsd> {
        let most = self.outfit.tasks[job.task].most(job, crate::domain::Route::Batch);
        most.map(|most| self.outfit.budget.with_overrun(most))
    }

    /// Says whether somebody waits for money, nobody can do without, and none is under way.
    fn is_out_of_money(&self) -> bool {
        let lacks = |(index, lane): (usize, &Lane)| {
            lane.lacks_money || !self.outfit.desk.lanes[index].unfunded.is_empty()
        };
        let lanes = || self.outfit.lanes.iter().enumerate();
        self.pending.is_empty()
            && self.flying.is_empty()
            && self.outfit.desk.is_quiet()
            && lanes().any(lacks)
            && lanes().all(|(index, lane)| lacks((index, lane)) || lane.is_empty())
    }

    /// Returns what the cheapest of those that wait may cost.
    fn needed(&self) -> Option<NanoUsd> {
        let now = self.outfit.world.clock.elapsed();
        let by_calls =
            self.outfit.lanes.iter().filter_map(|lane| lane.peek(now)).filter_map(|job| {
                let most = self.outfit.tasks[job.task].most(job, crate::domain::Route::Realtime);
                most.map(|most| self.outfit.budget.with_overrun(most))
            });
        let in_batches = self.outfit.desk.lanes.iter().filter_map(|lane| lane.unfunded.front());
        by_calls.chain(in_batches.filter_map(|job| self.most_in_a_batch(job))).min()
    }
}
