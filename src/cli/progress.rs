//! What a run says while it works: a bar on a terminal, a line now and then elsewhere, JSON lines if asked.
//!
//! It is told events and knows nothing of the engine. It is called on the dispatcher's thread, so it
//! does little; it never shows a word of a row or a reply.

mod events;
mod words;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::events::as_json;
use self::words::line;
use super::out::Out;
use super::text::{count, duration, one_line, thousands};
use crate::domain::{BatchId, BatchNews, BatchStatus, Event, NanoUsd, Outcome, Usage};
use crate::engine::Clock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is said where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The same while nothing but batches is waited for.
const LINE_WHILE_WAITING: Duration = Duration::from_mins(5);

/// Tells the story of a run.
pub(crate) struct Progress {
    out: Out,
    state: Mutex<Story>,
}

struct Story {
    bar: Option<ProgressBar>,
    clock: Clock,
    last_line: Duration,
    done_at_last_line: u64,
    due: u64,
    done: u64,
    /// Batches that have not ended.
    batches: HashMap<BatchId, BatchNews>,
    tally: Counts,
    trouble: Option<String>,
}

#[derive(Default)]
struct Counts {
    usage: Usage,
    cost: NanoUsd,
    unpriced: u64,
    retried: u64,
    failed: u64,
}

impl Progress {
    /// Starts telling.
    pub(crate) fn new(out: Out) -> Self {
        let wants_bar = !out.is_json() && !out.is_quiet() && std::io::stderr().is_terminal();
        let bar = wants_bar.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        let story = Story {
            bar,
            clock: Clock::start(),
            last_line: Duration::ZERO,
            done_at_last_line: 0,
            due: 0,
            done: 0,
            batches: HashMap::new(),
            tally: Counts::default(),
            trouble: None,
        };
        Self { out, state: Mutex::new(story) }
    }

    /// Takes in an event.
    pub(crate) fn tell(&self, event: &Event) {
        let mut story = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        story.count(event);
        if self.out.is_json() {
            // A reader who has gone away does not stop the run: the record is what counts.
            let _ = self.out.json_line(&as_json(event));
            return;
        }
        if let Some(line) = line(event) {
            match &story.bar {
                Some(bar) => bar.suspend(|| self.out.say(&line)),
                None => self.out.say(&line),
            }
        }
        match event {
            Event::Finished { .. } => {
                if let Some(bar) = &story.bar {
                    bar.finish_and_clear();
                }
            }
            _ => story.show(self.out),
        }
    }
}

impl Story {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Started { due, in_batches, .. } => {
                self.due = *due + *in_batches;
                if let Some(bar) = &self.bar {
                    bar.set_length(self.due);
                }
            }
            Event::Batch(news) => {
                match news.status {
                    BatchStatus::Collected => self.batches.remove(&news.id),
                    _ => self.batches.insert(news.id, news.clone()),
                };
            }
            Event::BatchTrouble { error, .. } => self.trouble = Some(one_line(error, 60)),
            Event::Settled { outcome, error, usage, cost, is_retried, .. } => {
                self.tally.usage += usage.unwrap_or_default();
                self.tally.cost += cost.unwrap_or_default();
                let may_be_billed = usage.is_some() || outcome.has_text();
                self.tally.unpriced += u64::from(may_be_billed && cost.is_none());
                self.tally.retried += u64::from(*is_retried);
                self.done += u64::from(!is_retried);
                if let Outcome::Failed(class) = outcome {
                    self.tally.failed += u64::from(!is_retried);
                    let words = error.as_deref().unwrap_or_default();
                    self.trouble = Some(format!("{class}: {}", one_line(words, 60)));
                }
            }
            Event::Shared { .. } => self.done += 1,
            Event::NotRendered { error, .. } => {
                self.done += 1;
                self.tally.failed += 1;
                self.trouble = Some(one_line(error, 60));
            }
            Event::InDoubt { .. }
            | Event::AsksInWords { .. }
            | Event::Canary { .. }
            | Event::QueueFull { .. }
            | Event::Oversized { .. }
            | Event::NoBatchApi { .. }
            | Event::BatchesGivenUp { .. }
            | Event::DeadlinePassed { .. }
            | Event::Paused { .. }
            | Event::RecordTrouble { .. }
            | Event::Stopping { .. }
            | Event::Finished { .. } => {}
        }
    }

    fn show(&mut self, out: Out) {
        let elapsed = self.clock.elapsed();
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(self.words(elapsed));
            return;
        }
        let has_moved = self.done > self.done_at_last_line;
        let every = if has_moved { LINE_EVERY } else { LINE_WHILE_WAITING };
        let is_work = has_moved || !self.batches.is_empty();
        if elapsed.saturating_sub(self.last_line) >= every && is_work {
            (self.last_line, self.done_at_last_line) = (elapsed, self.done);
            out.say(&format!(
                "{}/{} {}",
                thousands(self.done),
                thousands(self.due),
                self.words(elapsed)
            ));
        }
    }

    /// What batches do between two looks is not known, so there is no rate to tell a time from.
    fn words_on_batches(&self) -> String {
        let news = self.batches.values();
        let requests: u64 = news.clone().map(|news| news.requests).sum();
        let done: u64 = news
            .filter_map(|news| news.counts)
            .map(|counts| counts.completed + counts.failed)
            .sum();
        let batches = count(self.batches.len() as u64, "batch");
        format!("{batches} at work, {}/{} done there", thousands(done), thousands(requests))
    }

    fn words(&self, elapsed: Duration) -> String {
        let rate = self.done as f64 / elapsed.as_secs_f64().max(0.001);
        let mut words = format!("{rate:.1}/s");
        let left = self.due.saturating_sub(self.done);
        if !self.batches.is_empty() {
            words = self.words_on_batches();
        } else if left > 0 && self.done >= 5 {
            let eta = Duration::from_secs_f64((left as f64 / rate.max(0.001)).min(1e8));
            words.push_str(&format!(" · {} left", duration(eta)));
        }
        words.push_str(&format!(
            " · {} in {} out",
            thousands(self.tally.usage.input),
            thousands(self.tally.usage.output)
        ));
        words.push_str(&match self.tally.unpriced {
            0 => format!(" · {}", self.tally.cost),
            _ => " · cost unknown".to_owned(),
        });
        if self.tally.failed > 0 {
            words.push_str(&format!(" · {} failed", thousands(self.tally.failed)));
        }
        if let Some(trouble) = &self.trouble {
            words.push_str(&format!(" · last problem: {trouble}"));
        }
        words
    }
}
