//! What a rehearsal takes to be so, and on whose word.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::text::{count, duration, thousands};
use crate::machine::route::HasBatches;

/// Whose word something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// An option of this command.
    Option(&'static str),
    /// The provider told it, and it is on record.
    Provider,
    /// So many calls on record took as long.
    Calls(u64),
    /// So many batches on record took as long.
    Batches(u64),
    /// Nobody's; this option sets it.
    Nowhere(&'static str),
}

/// Something that is taken to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known<T> {
    pub(super) value: T,
    pub(super) from: From,
}

/// What is taken to be so of one model at one server.
#[derive(Clone, Debug)]
pub(super) struct Assumed {
    pub(super) model: String,
    pub(super) server: String,
    pub(super) has_batches: HasBatches,
    /// Requests a minute.
    pub(super) rpm: Option<Known<u64>>,
    /// Tokens a minute.
    pub(super) tpm: Option<Known<u64>>,
    /// Tokens that may wait in batches.
    pub(super) queue: Option<Known<u64>>,
    /// Of a call.
    pub(super) latency: Known<Duration>,
    /// Of a batch.
    pub(super) batch_delay: Known<Duration>,
    /// The most tokens of a request.
    pub(super) most_input: Option<u64>,
    /// The most tokens of an answer.
    pub(super) most_output: Option<u64>,
    /// Answers on record that lengths are drawn from.
    pub(super) answers: u64,
    /// How long they are, those that were cut left out.
    pub(super) answer_tokens: Option<f64>,
}

impl From {
    fn words(self) -> String {
        match self {
            Self::Option(name) => format!("as {name} says"),
            Self::Provider => "as the provider has told".to_owned(),
            Self::Calls(1) => "as the one call on record did".to_owned(),
            Self::Calls(calls) => format!("the mean of {} on record", count(calls, "call")),
            Self::Batches(1) => "as the one batch on record did".to_owned(),
            Self::Batches(batches) => {
                format!("the mean of {} on record", count(batches, "batch"))
            }
            Self::Nowhere(option) => format!("a guess; {option} sets it"),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Option(_) => "option",
            Self::Provider => "provider",
            Self::Calls(_) | Self::Batches(_) => "record",
            Self::Nowhere(_) => "guess",
        }
    }
}

impl Assumed {
    /// Returns it for a person: a name and a clause each.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("rate", self.rate())];
        let took =
            |known: Known<Duration>| format!("{}, {}", duration(known.value), known.from.words());
        lines.push(("calls", format!("take {}", took(self.latency))));
        match self.has_batches {
            HasBatches::No => {}
            HasBatches::Yes | HasBatches::Perhaps => {
                lines.push(("batches", format!("take {}", took(self.batch_delay))));
                lines.push(("queue", self.queue()));
            }
        }
        if self.has_batches == HasBatches::Perhaps {
            lines.push((
                "",
                "whether this server has batches is not known: as if it had".to_owned(),
            ));
        }
        lines.push(("context", self.context()));
        lines.push(("answers", self.answers()));
        lines
    }

    fn rate(&self) -> String {
        let told = |known: Known<u64>, what: &str| {
            format!("{} a minute, {}", count(known.value, what), known.from.words())
        };
        match (self.rpm, self.tpm) {
            (None, None) => "no limit is known; --rpm and --tpm set them".to_owned(),
            (Some(rpm), None) => {
                format!("{}; none of tokens is known, --tpm sets one", told(rpm, "request"))
            }
            (None, Some(tpm)) => {
                format!("{}; none of requests is known, --rpm sets one", told(tpm, "token"))
            }
            (Some(rpm), Some(tpm)) => {
                format!("{}; {}", told(rpm, "request"), told(tpm, "token"))
            }
        }
    }

    fn queue(&self) -> String {
        match self.queue {
            Some(queue) => {
                format!("{} may wait in it, {}", count(queue.value, "token"), queue.from.words())
            }
            None => "no limit is known; --enqueued-tokens sets one".to_owned(),
        }
    }

    fn context(&self) -> String {
        match (self.most_input, self.most_output) {
            (Some(input), Some(output)) => {
                format!("{} tokens in, {} out", thousands(input), thousands(output))
            }
            (Some(input), None) => format!("{} tokens in", thousands(input)),
            (None, Some(output)) => {
                format!("no limit is known of what goes in, {} tokens out", thousands(output))
            }
            (None, None) => "no limit is known, so none is too long".to_owned(),
        }
    }

    fn answers(&self) -> String {
        match self.answer_tokens {
            Some(tokens) => format!(
                "about {tokens:.0} tokens long, each as long as one of {} on record",
                count(self.answers, "answer")
            ),
            None if self.answers > 0 => {
                format!("cut, as {} on record were", count(self.answers, "answer"))
            }
            None => "their lengths are made up: none is on record yet".to_owned(),
        }
    }

    /// Returns it for a script.
    pub(super) fn as_json(&self) -> Value {
        let number = |known: Option<Known<u64>>| {
            known.map(|known| json!({"value": known.value, "from": known.from.as_str()}))
        };
        let seconds = |known: Known<Duration>| json!({"value": known.value.as_secs_f64(), "from": known.from.as_str()});
        json!({
            "model": self.model, "server": self.server,
            "has_batches": match self.has_batches {
                HasBatches::Yes => "yes", HasBatches::Perhaps => "perhaps", HasBatches::No => "no",
            },
            "requests_per_minute": number(self.rpm), "tokens_per_minute": number(self.tpm),
            "enqueued_tokens": number(self.queue), "latency_s": seconds(self.latency),
            "batch_s": seconds(self.batch_delay), "input_tokens_at_most": self.most_input,
            "output_tokens_at_most": self.most_output,
            "answers": {"on_record": self.answers, "tokens": self.answer_tokens},
        })
    }
}
