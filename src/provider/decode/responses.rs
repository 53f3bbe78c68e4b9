//! Replies of `/responses`.
//!
//! A 200 can carry any status: `failed` with its reason, `incomplete` with what was written so far.

use serde::Deserialize;

use super::content::Content;
use super::loose::{Loose, Present, object_shapes};
use super::usage::{UsageOnWire, counted};
use super::{failures, malformed, message};
use crate::domain::{FailureClass, Reading, Verdict};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    id: Loose<String>,
    model: Loose<String>,
    status: Loose<String>,
    incomplete_details: Loose<Incomplete>,
    error: Loose<Present>,
    output: Loose<Vec<Loose<Item>>>,
    usage: Loose<UsageOnWire>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Incomplete {
    reason: Loose<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    r#type: Loose<String>,
    phase: Loose<String>,
    content: Loose<Content>,
}

object_shapes!(Reply, Incomplete, Item);

/// Reads the body of a 2xx reply.
pub(super) fn read(body: &[u8]) -> serde_json::Result<Reading> {
    let mut reply = match serde_json::from_slice::<Loose<Reply>>(body)? {
        Loose::Is(reply) => reply,
        Loose::Missing | Loose::Wrong => return Ok(malformed("the reply is not a JSON object")),
    };
    let status = std::mem::take(&mut reply.status);
    let reason = std::mem::take(&mut reply.incomplete_details)
        .get()
        .and_then(|details| details.reason.get())
        .map(|reason| reason.to_ascii_lowercase());
    let usage = counted(std::mem::take(&mut reply.usage));
    let id = std::mem::take(&mut reply.id);
    let served_model = std::mem::take(&mut reply.model);
    let status = match status {
        Loose::Is(status) => status.to_ascii_lowercase(),
        Loose::Missing => String::new(),
        Loose::Wrong => return Ok(malformed("the reply's `status` is not text")),
    };
    let verdict = verdict(reply, &status, reason.as_deref(), body);
    let finish_reason = reason.or_else(|| (!status.is_empty()).then_some(status));
    Ok(Reading {
        verdict,
        finish_reason: finish_reason.map(|word| message::short(&word)),
        usage,
        provider_request_id: id.get().map(|id| message::short(&id)),
        served_model: served_model.get().map(|model| message::short(&model)),
    })
}

fn verdict(reply: Reply, status: &str, reason: Option<&str>, body: &[u8]) -> Verdict {
    match (status, reply.error) {
        ("cancelled", _) => {
            failed(FailureClass::ServerError, "the provider cancelled this response")
        }
        ("queued" | "in_progress", _) => {
            broken("the provider replied before the response was done")
        }
        // Some servers leave the status out; with an error there is no answer.
        ("failed", _) | ("", Loose::Is(Present)) => failures::in_success(body),
        ("incomplete", _) => answered(reply.output, |content| incomplete(content, reason)),
        ("completed" | "", _) => answered(reply.output, |content| Verdict::Text(content.text)),
        _ => broken("the reply has an unknown `status`"),
    }
}

fn incomplete(content: Content, reason: Option<&str>) -> Verdict {
    match reason {
        Some("max_output_tokens" | "max_tokens" | "length") => Verdict::Truncated(content.text),
        Some("content_filter") => {
            failed(FailureClass::ContentFiltered, "the provider's filter withheld the answer")
        }
        Some(_) | None => broken("the reply is incomplete and does not say why"),
    }
}

fn answered(output: Loose<Vec<Loose<Item>>>, verdict: impl FnOnce(Content) -> Verdict) -> Verdict {
    let items = match output {
        Loose::Is(items) => items,
        Loose::Wrong => return broken("the reply's `output` is not a list"),
        Loose::Missing => return broken("the reply has no `output`"),
    };
    match joined(items) {
        Ok(content) if content.refused => {
            failed(FailureClass::Refused, "the model refused to answer")
        }
        Ok(content) => verdict(content),
        Err(what) => broken(what),
    }
}

/// Joins the text of all messages. Other items (reasoning, tool calls) are passed over, and so is
/// `commentary`, which newer models write before the answer.
fn joined(items: Vec<Loose<Item>>) -> Result<Content, &'static str> {
    let mut all = Content::default();
    for item in items {
        let Loose::Is(item) = item else { return Err("an item of `output` is not an object") };
        let is_message = item.r#type.get().as_deref() == Some("message");
        if !is_message || item.phase.get().as_deref() == Some("commentary") {
            continue;
        }
        if item.content.is_wrong() {
            return Err("the `content` of a message in `output` is not a list of parts");
        }
        let content = item.content.get().unwrap_or_default();
        all.text += &content.text;
        all.refused |= content.refused;
    }
    Ok(all)
}

fn broken(what: &str) -> Verdict {
    failed(FailureClass::MalformedReply, what)
}

fn failed(class: FailureClass, what: &str) -> Verdict {
    Verdict::Failed { class, message: what.to_owned() }
}
