//! Replies of `/chat/completions`.

use serde::Deserialize;

use super::content::Content;
use super::loose::{First, Loose, Present, object_shapes};
use super::usage::{UsageOnWire, counted};
use super::{failures, malformed, message};
use crate::domain::{FailureClass, Reading, Verdict};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    id: Loose<String>,
    model: Loose<String>,
    choices: Loose<First<Choice>>,
    usage: Loose<UsageOnWire>,
    error: Loose<Present>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    message: Loose<Message>,
    finish_reason: Loose<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Loose<Content>,
    refusal: Loose<String>,
    tool_calls: Loose<Present>,
    function_call: Loose<Present>,
}

object_shapes!(Reply, Choice, Message);

/// Reads the body of a 2xx reply. Of several choices the first counts.
pub(super) fn read(body: &[u8]) -> serde_json::Result<Reading> {
    let reply = match serde_json::from_slice::<Loose<Reply>>(body)? {
        Loose::Is(reply) => reply,
        Loose::Missing | Loose::Wrong => return Ok(malformed("the reply is not a JSON object")),
    };
    let (verdict, finish_reason) = match (reply.choices, reply.error) {
        (Loose::Is(First(Some(choice))), _) => judge(choice),
        (_, Loose::Is(Present)) => (failures::in_success(body), None),
        (Loose::Is(First(None)), _) => (broken("the reply's `choices` are empty"), None),
        (Loose::Wrong, _) => (broken("the reply's `choices` are not a list"), None),
        (Loose::Missing, _) => (broken("the reply has no `choices`"), None),
    };
    Ok(Reading {
        verdict,
        finish_reason,
        usage: counted(reply.usage),
        provider_request_id: reply.id.get().map(|id| message::short(&id)),
        served_model: reply.model.get().map(|model| message::short(&model)),
    })
}

fn judge(choice: Loose<Choice>) -> (Verdict, Option<String>) {
    let Loose::Is(choice) = choice else {
        return (broken("`choices[0]` is not an object"), None);
    };
    if choice.finish_reason.is_wrong() {
        return (broken("`choices[0].finish_reason` is not text"), None);
    }
    let finish_reason = choice.finish_reason.get();
    let verdict = match choice.message {
        Loose::Is(message) => verdict(message, finish_reason.as_deref().unwrap_or("")),
        Loose::Wrong => broken("`choices[0].message` is not an object"),
        Loose::Missing => broken("the reply has no `choices[0].message`"),
    };
    (verdict, finish_reason.map(|word| message::short(&word)))
}

fn verdict(message: Message, finish_reason: &str) -> Verdict {
    if message.content.is_wrong() {
        return broken("`choices[0].message.content` is neither text nor a list of parts");
    }
    let content = message.content.get().unwrap_or_default();
    if content.refused || message.refusal.get().is_some_and(|refusal| !refusal.is_empty()) {
        return failed(FailureClass::Refused, "the model refused to answer");
    }
    let called = message.tool_calls.get().or_else(|| message.function_call.get()).is_some();
    match stop(finish_reason) {
        Stop::Tool => tool_or(content.text, true),
        Stop::Whole => tool_or(content.text, called),
        Stop::Cut => Verdict::Truncated(content.text),
        Stop::Filtered => {
            failed(FailureClass::ContentFiltered, "the provider's filter withheld the answer")
        }
        Stop::Refused => failed(FailureClass::Refused, "the model refused to answer"),
        Stop::Broken => failed(FailureClass::ServerError, "the server gave up on this reply"),
    }
}

/// No tool is ever offered, so a call without text is no answer, and beside text it is noise.
fn tool_or(text: String, called: bool) -> Verdict {
    if called && text.is_empty() {
        return broken("the reply calls a tool instead of answering");
    }
    Verdict::Text(text)
}

/// Why a model stopped.
enum Stop {
    Whole,
    Cut,
    Filtered,
    Refused,
    Tool,
    Broken,
}

/// OpenAI's five words, and those that other servers were seen to send. An unknown word is taken for
/// a whole answer: new ones appear (`eos`, `stop_sequence`), and the prompt's own checks come after.
fn stop(finish_reason: &str) -> Stop {
    let word = finish_reason.to_ascii_lowercase();
    match word.as_str() {
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "model_length"
        | "model_context_window_exceeded" => Stop::Cut,
        "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" | "sensitive" => {
            Stop::Filtered
        }
        // Gemini adds its own word: `content_filter: RECITATION`.
        filtered if filtered.starts_with("content_filter") => Stop::Filtered,
        "refusal" => Stop::Refused,
        "tool_calls" | "function_call" | "tool_use" => Stop::Tool,
        // vLLM, Mistral and OpenRouter, DeepSeek, in this order.
        "abort" | "error" | "insufficient_system_resource" => Stop::Broken,
        _ => Stop::Whole,
    }
}

fn broken(what: &str) -> Verdict {
    failed(FailureClass::MalformedReply, what)
}

fn failed(class: FailureClass, what: &str) -> Verdict {
    Verdict::Failed { class, message: what.to_owned() }
}
