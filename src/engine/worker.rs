//! A worker makes one call and reads its reply. It decides nothing and records nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::clock::Clock;
use super::secret::Secret;
use super::task::Task;
use super::transport::{Call, NoReply, Reply, Room, Transport};
use crate::domain::{
    FailureClass, NanoUsd, Outcome, Reading, Route, Structured, UnixMs, Usage, Verdict,
};
use crate::machine::answer_check::AnswerCheck;
use crate::machine::pace::LimitSeen;
use crate::provider::{
    RateHeaders, ReplyHeaders, Window, reading as read_reply, refuses_schemas, wait_in_message,
};
use crate::store::{Codec, Packed};

/// A call that has landed, read and packed.
pub(super) struct Landed {
    pub(super) ticket: u64,
    pub(super) outcome: Outcome,
    pub(super) answer: Option<String>,
    pub(super) error: Option<String>,
    pub(super) status_code: Option<u16>,
    pub(super) provider_request_id: Option<String>,
    pub(super) served_model: Option<String>,
    pub(super) finish_reason: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) cost: Option<NanoUsd>,
    pub(super) reply: Option<Packed>,
    /// The plain reply, while the prompt has no dictionary for its replies yet.
    pub(super) first_reply: Option<Bytes>,
    pub(super) asked_pause: Option<Duration>,
    pub(super) requests_limit: LimitSeen,
    pub(super) tokens_limit: LimitSeen,
    pub(super) took: Duration,
    /// The reply's share of the memory for replies, until it is on record.
    pub(super) room: Option<Room>,
}

/// Lands a call even where reading its reply breaks off: a call that never landed would be waited for forever.
pub(super) struct Parachute {
    ticket: u64,
    landing: UnboundedSender<Landed>,
    is_down: bool,
}

impl Parachute {
    pub(super) fn new(ticket: u64, landing: UnboundedSender<Landed>) -> Self {
        Self { ticket, landing, is_down: false }
    }

    pub(super) fn land(mut self, landed: Landed) {
        self.is_down = true;
        // Nobody listens only once the process ends.
        let _ = self.landing.send(landed);
    }
}

impl Drop for Parachute {
    fn drop(&mut self) {
        if !self.is_down {
            let words = "reading the reply broke off; this is a mistake in overnight".to_owned();
            let judged = Judged {
                outcome: Outcome::Failed(FailureClass::MalformedReply),
                answer: None,
                error: Some(words.clone()),
                reading: Reading::failed(FailureClass::MalformedReply, words),
            };
            let _ = self.landing.send(Landed::of(self.ticket, judged, Duration::ZERO));
        }
    }
}

/// Sends `bytes` for a task and reads what comes back.
pub(super) async fn call(
    ticket: u64,
    tasks: Arc<Vec<Task>>,
    (task, bytes, form): (usize, Bytes, Structured),
    (transport, clock): (Transport, Clock),
) -> Landed {
    let task = &tasks[task];
    let call =
        Call { url: task.server.url.clone(), headers: task.server.headers.clone(), body: bytes };
    let start = clock.elapsed();
    let sent = transport.send(call, task.server.key.as_ref()).await;
    let took = clock.elapsed().saturating_sub(start);
    match sent {
        Ok(mut reply) => {
            let room = reply.room.take();
            let at = (took, clock.time_of_day());
            Landed { room, ..read(task, (ticket, form), &reply, at) }
        }
        Err(NoReply { class, message }) => {
            let reading = Reading::failed(class, message);
            let landed = Landed::of(ticket, judge(task, form, reading), took);
            Landed { cost: task.bill(None, (landed.outcome, None), Route::Realtime), ..landed }
        }
    }
}

fn read(
    task: &Task,
    (ticket, form): (u64, Structured),
    reply: &Reply,
    (took, now): (Duration, UnixMs),
) -> Landed {
    let headers = ReplyHeaders::from_map(&reply.headers);
    let endpoint = task.prompt.spec.endpoint;
    let reading = read_reply(endpoint, reply.status, &headers, &reply.body);
    let limits = RateHeaders::read(&headers, now);
    let mut landed = Landed::of(ticket, judge(task, form, reading), took);
    landed.status_code = Some(reply.status);
    landed.cost = task.bill(landed.usage, (landed.outcome, landed.status_code), Route::Realtime);
    landed.asked_pause = limits.retry_after.or_else(|| {
        landed.error.as_deref().filter(|_| reply.status == 429).and_then(wait_in_message)
    });
    landed.requests_limit = seen(limits.requests);
    let tokens = landed.usage.map_or(0, |usage| usage.input + usage.output) as f64;
    // A minute that has no room for what was just served is none of this model's.
    let of_tokens = seen(limits.tokens);
    if of_tokens.per_minute.is_some_and(|limit| limit >= tokens) {
        landed.tokens_limit = of_tokens;
    }
    pack(task, reply, &mut landed);
    landed
}

/// Packs the raw reply. A reply that cannot be packed is kept as zstd's own failure: without it.
fn pack(task: &Task, reply: &Reply, landed: &mut Landed) {
    let codec = task.reply_codec.get().cloned();
    if codec.is_none() && landed.outcome == Outcome::Answered && reply.body.first() == Some(&b'{') {
        landed.first_reply = Some(reply.body.clone());
    }
    landed.reply = codec.unwrap_or_else(Codec::plain).pack(&reply.body).ok();
}

fn seen(window: Window) -> LimitSeen {
    LimitSeen {
        per_minute: window.limit.map(|limit| limit as f64),
        remaining: window.remaining.map(|remaining| remaining as f64),
        reset: window.reset,
    }
}

/// A reading with the prompt's own demands applied.
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) answer: Option<String>,
    pub(super) error: Option<String>,
    pub(super) reading: Reading,
}

/// Answers that are longer than this are checked one at a time: what that takes in memory is a multiple of them.
const LONG_ANSWER: usize = 256 << 10;
static LONG_ANSWERS: Mutex<()> = Mutex::new(());

pub(super) fn judge(task: &Task, form: Structured, reading: Reading) -> Judged {
    judged((&task.check, task.server.key.as_ref()), form, reading)
}

/// Judges by a prompt's demands alone; without a key there is none to be taken out.
pub(super) fn judged(
    (check, key): (&AnswerCheck, Option<&Secret>),
    form: Structured,
    reading: Reading,
) -> Judged {
    let is_long = matches!(&reading.verdict, Verdict::Text(text) if text.len() > LONG_ANSWER);
    // Nothing is behind the lock that a thread could leave broken.
    let _turn = is_long.then(|| LONG_ANSWERS.lock().unwrap_or_else(PoisonError::into_inner));
    let (outcome, answer, error) = match &reading.verdict {
        Verdict::Text(text) => match check.check(text) {
            Ok(answer) => (Outcome::Answered, Some(answer), None),
            Err(error) => (Outcome::Failed(FailureClass::InvalidAnswer), None, Some(error)),
        },
        Verdict::Truncated(_) => (Outcome::Truncated, None, None),
        Verdict::Failed { class, message } => {
            let clean = key.and_then(|key| key.redact_text(message));
            let message = clean.unwrap_or_else(|| message.clone());
            let class = match (form, class) {
                (Structured::Schema, FailureClass::InvalidRequest) if refuses_schemas(&message) => {
                    FailureClass::SchemaUnsupported
                }
                _ => *class,
            };
            (Outcome::Failed(class), None, Some(message))
        }
    };
    Judged { outcome, answer, error, reading }
}

impl Landed {
    fn of(ticket: u64, judged: Judged, took: Duration) -> Self {
        Self {
            ticket,
            outcome: judged.outcome,
            answer: judged.answer,
            error: judged.error,
            status_code: None,
            provider_request_id: judged.reading.provider_request_id,
            served_model: judged.reading.served_model,
            finish_reason: judged.reading.finish_reason,
            usage: judged.reading.usage,
            cost: None,
            reply: None,
            first_reply: None,
            asked_pause: None,
            requests_limit: LimitSeen::default(),
            tokens_limit: LimitSeen::default(),
            took,
            room: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_whose_reading_breaks_off_lands_all_the_same() {
        let (landing, mut landed) = tokio::sync::mpsc::unbounded_channel();
        let parachute = Parachute::new(7, landing);
        let broken = tokio::spawn(async move {
            let _parachute = parachute;
            panic!("a mistake of ours");
        });
        assert!(broken.await.is_err());
        let landed = landed.recv().await.unwrap();
        assert_eq!(landed.ticket, 7);
        assert_eq!(landed.outcome, Outcome::Failed(FailureClass::MalformedReply));
    }
}
