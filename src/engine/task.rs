//! One prompt of a run, with all that is needed to render, send, read and record its requests.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderMap;
use url::Url;

use super::secret::Secret;
use crate::domain::{Fingerprint, Message, NanoUsd, Price, PromptId, RequestId, RowId, Usage};
use crate::machine::answer_check::AnswerCheck;
use crate::machine::render::Template;
use crate::machine::request::Policy;
use crate::provider::Encoder;
use crate::store::{Codec, NewBody, Packed, PromptRecord};

/// Where a prompt's requests go.
#[derive(Clone, Debug)]
pub struct Server {
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
    /// What its tokens cost.
    pub price: Option<Price>,
    /// Its templates.
    pub template: Template,
    /// Its bodies.
    pub encoder: Encoder,
    /// Its demands on an answer.
    pub check: AnswerCheck,
    /// What is due of it.
    pub policy: Policy,
    /// Packs its bodies, against the first of them.
    pub(super) body_codec: OnceLock<Arc<Codec>>,
    /// Packs its replies, against the first good one.
    pub(super) reply_codec: OnceLock<Arc<Codec>>,
}

impl Task {
    /// Puts a prompt's parts together.
    pub fn new(prompt: PromptRecord, server: Server, parts: TaskParts) -> Self {
        Self {
            prompt,
            server,
            price: parts.price,
            template: parts.template,
            encoder: parts.encoder,
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

    /// Returns what `usage` costs, if the price is known.
    pub(super) fn cost(&self, usage: Usage) -> Option<NanoUsd> {
        self.price.map(|price| price.of(usage))
    }

    /// Packs a body with the prompt's dictionary, if there is one yet.
    pub(super) fn pack_body(&self, body: &[u8]) -> std::io::Result<Packed> {
        match self.body_codec.get() {
            Some(codec) => codec.pack(body),
            None => Codec::plain().pack(body),
        }
    }
}

/// What a task is made of besides its prompt and server.
pub struct TaskParts {
    /// What its tokens cost.
    pub price: Option<Price>,
    /// Its templates.
    pub template: Template,
    /// Its bodies.
    pub encoder: Encoder,
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
    pub(super) messages: Vec<Message>,
    /// The body of the request, as fingerprinted.
    pub(super) body: NewBody,
    /// The exact bytes to send.
    pub(super) bytes: Bytes,
    /// Packed, where they are not the request's own.
    pub(super) sent_body: Option<Packed>,
    pub(super) max_tokens: Option<u32>,
    pub(super) attempts_used: u32,
    /// Failures in a row in this run.
    pub(super) failures: u32,
    /// Whether a twin's reply may be shared; off once it has been found that there is none to wait for.
    pub(super) reuse: bool,
    /// Held while it waits in memory; bounds how much is read ahead.
    pub(super) room: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Job {
    /// Guesses the tokens that it will take, for the pace: about four bytes a token of ASCII, fewer of others.
    pub(super) fn guessed_tokens(&self) -> u64 {
        self.bytes.len() as u64 / 4 + u64::from(self.max_tokens.unwrap_or(64))
    }
}

/// Makes the body of a request and, where it differs, what is sent this time.
pub(super) fn encode(
    task: &Task,
    messages: &[Message],
    max_tokens: Option<u32>,
) -> std::io::Result<(NewBody, Bytes, Option<Packed>)> {
    let first = Bytes::from(task.encoder.body(messages, task.prompt.spec.max_tokens));
    let body = NewBody { fingerprint: Fingerprint::of(&first), packed: task.pack_body(&first)? };
    if max_tokens == task.prompt.spec.max_tokens {
        return Ok((body, first, None));
    }
    let bytes = Bytes::from(task.encoder.body(messages, max_tokens));
    let packed = task.pack_body(&bytes)?;
    Ok((body, bytes, Some(packed)))
}
