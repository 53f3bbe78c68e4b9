//! `POST /v1/chat/completions`: reads its body and writes its reply.

use serde_json::{Value, json};

use super::completion::{Answer, Ask, Completion, Finish, Format, Overflow, Said, Turn};
use super::reply::Stamp;
use crate::domain::Endpoint;

/// Reads a body that has been checked.
pub(super) fn read(body: &Value) -> Ask<'_> {
    let number = |field: &str| body.get(field).and_then(Value::as_u64);
    Ask {
        endpoint: Endpoint::ChatCompletions,
        model: body.get("model").and_then(Value::as_str).unwrap_or_default(),
        turns: turns(body),
        limit: number("max_completion_tokens").or_else(|| number("max_tokens")),
        format: format(body),
        stops: stops(body),
        answers: number("n").unwrap_or(1),
        overflow: Overflow::Refused,
    }
}

/// Reads the messages.
pub(super) fn turns(body: &Value) -> Vec<Turn<'_>> {
    let messages = body.get("messages").and_then(Value::as_array);
    messages.into_iter().flatten().map(Turn::read).collect()
}

fn format(body: &Value) -> Format<'_> {
    let Some(format) = body.get("response_format") else { return Format::Text };
    let schema = format.get("json_schema").and_then(|format| format.get("schema"));
    match (format.get("type").and_then(Value::as_str), schema) {
        (Some("json_object"), _) => Format::Object,
        (Some("json_schema"), Some(schema)) => Format::Schema(schema),
        _ => Format::Text,
    }
}

fn stops(body: &Value) -> Vec<&str> {
    match body.get("stop") {
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => stops.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Writes a reply with all that `CreateChatCompletionResponse` requires.
pub(super) fn write(ask: &Ask<'_>, completion: &Completion, stamp: &Stamp) -> Value {
    let choices =
        completion.answers.iter().enumerate().map(|(index, answer)| choice(index, answer));
    let usage = completion.usage;
    json!({
        "id": format!("chatcmpl-{}", stamp.id),
        "object": "chat.completion",
        "created": stamp.created,
        "model": ask.model,
        "choices": choices.collect::<Vec<_>>(),
        "usage": {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    })
}

fn choice(index: usize, answer: &Answer) -> Value {
    let (content, refusal) = match &answer.said {
        Said::Text(text) => (Some(text), None),
        Said::Refusal(text) => (None, Some(text)),
    };
    let finish_reason = match answer.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Filter => "content_filter",
    };
    json!({
        "index": index,
        "message": {
            "role": "assistant",
            "content": content,
            "refusal": refusal,
            "annotations": [],
        },
        "logprobs": null,
        "finish_reason": finish_reason,
    })
}
