//! One prompt of a run, with all that is needed to render, send, read and record its requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;
use url::Url;

use super::batches::SlotId;
use super::secret::Secret;
use crate::domain::{
    Fingerprint, Message, NanoUsd, Outcome, Price, PromptId, PromptSpec, RequestId, Route, RowId,
    Structured, Usage,
};
use crate::machine::answer_check::AnswerCheck;
use crate::machine::budget::{bill, most};
use crate::machine::packing::Size;
use crate::machine::prices::ListedPrice;
use crate::machine::render::Template;
use crate::machine::request::Policy;
use crate::machine::route::HasBatches;
use crate::machine::tokens::InputTokens;
use crate::provider::Encoder;
use crate::store::{Codec, NewBody, Packed, PromptRecord};

/// Where a prompt's requests go.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name on record: the base URL, or `embedded`.
    pub name: String,
    /// Whether it has the Batch API.
    pub has_batches: HasBatches,
    /// The endpoint's whole URL.
    pub url: Url,
    /// Content type, key and the like.
    pub headers: HeaderMap,
    /// The key that stands in the headers, so that it can be taken out of replies.
    pub key: Option<Secret>,
}

/// One prompt of a run.
pub struct Task {
    /// The prompt on record.
    pub prompt: PromptRecord,
    /// Where its requests go.
    pub server: Server,
    /// What its tokens cost, by a call and in a batch.
    pub price: Prices,
    /// Its templates.
    pub template: Template,
    /// Its bodies.
    encoder: Encoder,
    /// Its bodies for a server that takes no JSON Schema, where the others hold one.
    in_words: Option<Encoder>,
    /// Its demands on an answer.
    pub check: AnswerCheck,
    /// What is due of it.
    pub policy: Policy,
    /// How many replies each of its requests asks for.
    replies: u32,
    /// Counts the input tokens of its requests, with the form of the answer in a schema and in words; loading the
    /// vocabulary takes a moment, and not every run counts.
    counters: [OnceLock<InputTokens>; 2],
    /// Set once its server has been found to take no JSON Schema.
    asks_in_words: AtomicBool,
    /// Packs its bodies, against the first of them.
    pub(super) body_codec: OnceLock<Arc<Codec>>,
    /// Packs its replies, against the first good one.
    pub(super) reply_codec: OnceLock<Arc<Codec>>,
}

impl Task {
    /// Puts a prompt's parts together.
    pub fn new(prompt: PromptRecord, server: Server, parts: TaskParts) -> Self {
        Self {
            asks_in_words: AtomicBool::new(prompt.asks_in_words),
            replies: replies(&prompt.spec),
            prompt,
            server,
            price: parts.price,
            counters: [OnceLock::new(), OnceLock::new()],
            template: parts.template,
            encoder: parts.encoder,
            in_words: parts.in_words,
            check: parts.check,
            policy: parts.policy,
            body_codec: OnceLock::new(),
            reply_codec: OnceLock::new(),
        }
    }

    /// The prompt's id.
    pub(super) fn id(&self) -> PromptId {
        self.prompt.id
    }

    /// Returns how the form of an answer is asked for now.
    pub(super) fn form(&self) -> Structured {
        match self.in_words.is_none() || self.asks_in_words.load(Ordering::Relaxed) {
            true => Structured::Words,
            false => Structured::Schema,
        }
    }

    /// Returns how the form of an answer was asked for in a body that was, or was not, sent after a schema had been refused.
    pub(super) fn form_of(&self, is_in_words: bool) -> Structured {
        match self.in_words.is_none() || is_in_words {
            true => Structured::Words,
            false => Structured::Schema,
        }
    }

    /// Asks in words from now on. Returns whether that is news.
    pub(super) fn ask_in_words(&self) -> bool {
        !self.asks_in_words.swap(true, Ordering::Relaxed)
    }

    fn body(&self, form: Structured, messages: &[Message], max_tokens: Option<u32>) -> Bytes {
        let encoder = match form {
            Structured::Schema => &self.encoder,
            Structured::Words => self.in_words.as_ref().unwrap_or(&self.encoder),
        };
        Bytes::from(encoder.body(messages, max_tokens))
    }

    fn price(&self, route: Route) -> Option<Price> {
        match route {
            Route::Realtime => self.price.realtime,
            Route::Batch => self.price.batch,
        }
    }

    /// Returns what an attempt has cost; `None` where the price is not known, or what was billed.
    pub(super) fn bill(
        &self,
        usage: Option<Usage>,
        of: (Outcome, Option<u16>),
        route: Route,
    ) -> Option<NanoUsd> {
        bill(self.price(route), usage, of)
    }

    /// Returns the most that a job can cost by a route, if its price is known and its output bounded.
    pub(super) fn most(&self, job: &Job, route: Route) -> Option<NanoUsd> {
        let bound = job.max_tokens.map(u64::from).or(self.price.max_output_tokens)?;
        // A token is a byte at least. That is more than enough, and given back at once after a call; what is set aside for
        // a batch stays so for hours, and its tokens have been counted for packing.
        let bytes = job.bytes.len() as u64;
        let input = match route {
            Route::Realtime => bytes,
            Route::Batch => {
                let counter = self.counter(job.form);
                counter.most_of_counted(&job.messages, job.size.tokens, None).min(bytes)
            }
        };
        let replies = u64::from(self.replies);
        Some(most(self.price(route)?, input, bound.saturating_mul(replies)))
    }

    /// Counts the input tokens of a request.
    pub(super) fn input_tokens(&self, messages: &[Message]) -> u64 {
        self.counter(self.form()).count(messages)
    }

    /// Returns what counts the input tokens of requests that ask for the form of the answer like this.
    pub(super) fn counter(&self, form: Structured) -> &InputTokens {
        let kept = match form {
            Structured::Schema => &self.counters[0],
            Structured::Words => &self.counters[1],
        };
        kept.get_or_init(|| InputTokens::of(&self.prompt.spec, form))
    }

    /// Packs a body with the prompt's dictionary, if there is one yet.
    pub(super) fn pack_body(&self, body: &[u8]) -> std::io::Result<Packed> {
        match self.body_codec.get() {
            Some(codec) => codec.pack(body),
            None => Codec::plain().pack(body),
        }
    }
}

/// Returns how many replies a prompt's parameters ask for.
fn replies(spec: &PromptSpec) -> u32 {
    let asked = spec.parameters.get("n").and_then(serde_json::Value::as_u64);
    asked.and_then(|asked| u32::try_from(asked).ok()).unwrap_or(1).max(1)
}

/// What a model's tokens cost, and how many it takes and gives; `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// By a call.
    pub realtime: Option<Price>,
    /// In a batch.
    pub batch: Option<Price>,
    /// The most output tokens that the model gives, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// The most input tokens that the model takes.
    pub max_input_tokens: Option<u64>,
}

impl From<ListedPrice> for Prices {
    fn from(listed: ListedPrice) -> Self {
        Self {
            realtime: Some(listed.price),
            batch: Some(listed.batch),
            max_output_tokens: listed.max_output_tokens,
            max_input_tokens: listed.max_input_tokens,
        }
    }
}

/// What a task is made of besides its prompt and server.
pub struct TaskParts {
    /// What its tokens cost.
    pub price: Prices,
    /// Its templates.
    pub template: Template,
    /// Its bodies.
    pub encoder: Encoder,
    /// Its bodies for a server that takes no JSON Schema, where the others hold one.
    pub in_words: Option<Encoder>,
    /// Its demands on an answer.
    pub check: AnswerCheck,
    /// What is due of it.
    pub policy: Policy,
}

/// A due request, rendered and ready to be promised.
#[derive(Debug)]
pub(super) struct Job {
    /// Which of the run's tasks.
    pub(super) task: usize,
    pub(super) row: RowId,
    pub(super) position: i64,
    /// Its request, once one is on record.
    pub(super) request: Option<RequestId>,
    /// Of its body on record, once there is one.
    pub(super) recorded: Option<Fingerprint>,
    pub(super) messages: Arc<[Message]>,
    /// The body of the request, as fingerprinted.
    pub(super) body: NewBody,
    /// The exact bytes to send.
    pub(super) bytes: Bytes,
    /// Packed, where they are not the request's own.
    pub(super) sent_body: Option<Packed>,
    /// How they ask for the form of the answer.
    pub(super) form: Structured,
    pub(super) max_tokens: Option<u32>,
    pub(super) attempts_used: u32,
    /// Failures in a row in this run.
    pub(super) failures: u32,
    /// Whether a twin's reply may be shared; off once it has been found that there is none to wait for.
    pub(super) reuse: bool,
    /// Its number among what its lane has sent.
    pub(super) pace_number: u64,
    /// By which way it is to go, if there is room.
    pub(super) wanted: Route,
    /// Its line in a batch's input file at most, where that is wanted.
    pub(super) size: Size,
    /// The batch in which it asks for a place.
    pub(super) slot: Option<SlotId>,
    /// Whether it goes ahead of its prompt's first batch, to find out whether the provider takes it.
    pub(super) is_canary: bool,
    /// What is set aside for the attempt that is under way.
    pub(super) reserved: Option<NanoUsd>,
    /// Held while it waits in memory; bounds how much is read ahead.
    pub(super) room: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Job {
    /// Guesses the tokens that it will take, for the pace: about four bytes a token of ASCII, fewer of others.
    pub(super) fn guessed_tokens(&self) -> u64 {
        self.bytes.len() as u64 / 4 + u64::from(self.max_tokens.unwrap_or(64))
    }
}

/// What is sent for a request, and what is put on record of it.
pub(super) struct Encoded {
    /// The body of the request itself; an existing one keeps what it has on record.
    pub(super) body: NewBody,
    /// The exact bytes to send.
    pub(super) bytes: Bytes,
    /// Packed, where they are not the request's own.
    pub(super) sent_body: Option<Packed>,
    /// How they ask for the form of the answer.
    pub(super) form: Structured,
}

/// Makes what is sent. `recorded` is the fingerprint of the request's own body, if it has one on record.
pub(super) fn encode(
    task: &Task,
    messages: &[Message],
    max_tokens: Option<u32>,
    recorded: Option<Fingerprint>,
) -> std::io::Result<Encoded> {
    let form = task.form();
    let first = task.body(form, messages, task.prompt.spec.max_tokens);
    let body = NewBody { fingerprint: Fingerprint::of(&first), packed: task.pack_body(&first)? };
    let bytes = match max_tokens == task.prompt.spec.max_tokens {
        true => first,
        false => task.body(form, messages, max_tokens),
    };
    let is_own = Fingerprint::of(&bytes) == recorded.unwrap_or(body.fingerprint);
    let sent_body = if is_own { None } else { Some(task.pack_body(&bytes)?) };
    Ok(Encoded { body, bytes, sent_body, form })
}
