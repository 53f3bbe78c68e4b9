//! What a run says while it works: a bar on a terminal, a line now and then elsewhere, JSON lines if asked.
//!
//! It is told events and knows nothing of the engine. It is called on the dispatcher's thread, so it
//! does little; it never shows a word of a row or a reply.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::out::Out;
use super::text::{count, duration, one_line, thousands};
use crate::domain::{Event, HowEnded, NanoUsd, Outcome, Problem, State, Usage};
use crate::engine::Clock;

/// How often a line is said where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Tells the story of a run.
pub(crate) struct Progress {
    out: Out,
    state: Mutex<Story>,
}

struct Story {
    bar: Option<ProgressBar>,
    clock: Clock,
    last_line: Duration,
    due: u64,
    done: u64,
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
            due: 0,
            done: 0,
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
            Event::Started { due, .. } => {
                self.due = *due;
                if let Some(bar) = &self.bar {
                    bar.set_length(*due);
                }
            }
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
        if elapsed.saturating_sub(self.last_line) >= LINE_EVERY && self.done > 0 {
            self.last_line = elapsed;
            out.say(&format!(
                "{}/{} {}",
                thousands(self.done),
                thousands(self.due),
                self.words(elapsed)
            ));
        }
    }

    fn words(&self, elapsed: Duration) -> String {
        let rate = self.done as f64 / elapsed.as_secs_f64().max(0.001);
        let mut words = format!("{rate:.1}/s");
        let left = self.due.saturating_sub(self.done);
        if left > 0 && self.done >= 5 {
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

/// Returns what is worth a line of its own.
fn line(event: &Event) -> Option<String> {
    match event {
        Event::Started { due, answered, .. } => Some(match answered {
            0 => format!("{} to send", count(*due, "request")),
            _ => format!(
                "{} to send, {} answered already",
                count(*due, "request"),
                thousands(*answered)
            ),
        }),
        Event::InDoubt { requests, is_held } => {
            let may = format!(
                "{} may have been sent and have no reply on file",
                count(*requests, "request")
            );
            Some(match is_held {
                true => format!("{may}; held, `overnight retry --in-doubt` makes them due"),
                false => format!("{may}; sent again, they may be billed twice"),
            })
        }
        Event::Paused { class, pause } if *pause >= Duration::from_secs(5) => {
            Some(format!("{class}: pausing for {}", duration(*pause)))
        }
        Event::AsksInWords { prompt } => Some(format!(
            "the server takes no JSON Schema; prompt {prompt} is asked in words from now on"
        )),
        Event::RecordTrouble { error } => {
            Some(format!("the record cannot be written, trying again: {error}"))
        }
        Event::Stopping { why, in_flight } => {
            let waiting = match in_flight {
                0 => String::new(),
                number => format!(
                    "; waiting for {} in flight (Ctrl-C again stops at once)",
                    thousands(*number)
                ),
            };
            Some(match why {
                Problem::Interrupted => format!("interrupted: sending no more{waiting}"),
                Problem::Provider { .. }
                | Problem::EveryRequestFails { .. }
                | Problem::Record { .. } => {
                    format!("stopping{waiting}")
                }
            })
        }
        Event::Paused { .. }
        | Event::Settled { .. }
        | Event::Shared { .. }
        | Event::NotRendered { .. }
        | Event::Finished { .. } => None,
    }
}

fn as_json(event: &Event) -> Value {
    match event {
        Event::Started { run, due, answered } => {
            json!({"event": "started", "run": run, "due": due, "answered": answered})
        }
        Event::InDoubt { requests, is_held } => {
            json!({"event": "in_doubt", "requests": requests, "held": is_held})
        }
        Event::Settled {
            position,
            prompt,
            attempt,
            route,
            outcome,
            error,
            took,
            usage,
            cost,
            is_retried,
        } => json!({
            "event": "settled", "position": position, "prompt": prompt, "attempt": attempt,
            "route": route.as_str(), "outcome": outcome.as_str(),
            "error_class": match outcome { Outcome::Failed(class) => Some(class.as_str()), _ => None },
            "error": error, "took_ms": took.as_millis() as u64,
            "tokens": usage, "cost_usd": cost.map(NanoUsd::usd), "retried": is_retried,
        }),
        Event::Shared { position, prompt, state } => json!({
            "event": "shared", "position": position, "prompt": prompt, "state": State::as_str(*state),
        }),
        Event::NotRendered { position, prompt, error } => {
            json!({"event": "not_rendered", "position": position, "prompt": prompt, "error": error})
        }
        Event::Paused { class, pause } => {
            json!({"event": "paused", "error_class": class.as_str(), "pause_ms": pause.as_millis() as u64})
        }
        Event::AsksInWords { prompt } => json!({"event": "asks_in_words", "prompt": prompt}),
        Event::RecordTrouble { error } => json!({"event": "record_trouble", "error": error}),
        Event::Stopping { why, in_flight } => {
            json!({"event": "stopping", "why": why_word(why), "in_flight": in_flight})
        }
        Event::Finished { how, tally } => json!({
            "event": "finished", "ended": how.as_str(),
            "why": match how { HowEnded::Stopped(why) => Some(why_word(why)), _ => None },
            "sent": tally.sent, "answered": tally.answered, "shared": tally.shared,
            "failed": tally.failed, "truncated": tally.truncated, "retried": tally.retried,
            "tokens": tally.usage,
            "cost_usd": (tally.unpriced == 0).then(|| tally.cost.usd()),
        }),
    }
}

fn why_word(why: &Problem) -> &'static str {
    match why {
        Problem::Interrupted => "interrupted",
        Problem::Provider { class, .. } | Problem::EveryRequestFails { class, .. } => {
            class.as_str()
        }
        Problem::Record { .. } => "record",
    }
}
