//! `POST /v1/responses`: reads its body and writes its reply.

use serde_json::{Value, json};

use super::completion::{Answer, Ask, Completion, Finish, Format, Overflow, Said, Turn};
use super::reply::Stamp;
use crate::domain::Endpoint;

/// Reads a body that has been checked.
pub(super) fn read(body: &Value) -> Ask<'_> {
    let overflow = match body.get("truncation").and_then(Value::as_str) {
        Some("auto") => Overflow::Dropped,
        _ => Overflow::Refused,
    };
    Ask {
        endpoint: Endpoint::Responses,
        model: body.get("model").and_then(Value::as_str).unwrap_or_default(),
        turns: turns(body),
        limit: body.get("max_output_tokens").and_then(Value::as_u64),
        format: format(body),
        stops: Vec::new(),
        answers: 1,
        overflow,
    }
}

/// Reads the instructions and the input's messages.
pub(super) fn turns(body: &Value) -> Vec<Turn<'_>> {
    let said = |role, text| Turn { role, name: None, texts: vec![text], media: 0 };
    let instructions = body.get("instructions").and_then(Value::as_str);
    let mut turns: Vec<_> = instructions.map(|text| said("developer", text)).into_iter().collect();
    match body.get("input") {
        Some(Value::String(text)) => turns.push(said("user", text)),
        Some(Value::Array(items)) => {
            turns.extend(items.iter().filter(|item| item.get("role").is_some()).map(Turn::read));
        }
        _ => {}
    }
    turns
}

fn format(body: &Value) -> Format<'_> {
    let Some(format) = body.get("text").and_then(|text| text.get("format")) else {
        return Format::Text;
    };
    match (format.get("type").and_then(Value::as_str), format.get("schema")) {
        (Some("json_object"), _) => Format::Object,
        (Some("json_schema"), Some(schema)) => Format::Schema(schema),
        _ => Format::Text,
    }
}

/// Writes a reply with all that `Response` requires; parameters are given back as they came.
pub(super) fn write(body: &Value, completion: &Completion, stamp: &Stamp) -> Value {
    let finish = completion.answers.first().map_or(Finish::Stop, |answer| answer.finish);
    let incomplete = match finish {
        Finish::Stop => Value::Null,
        Finish::Length => json!({"reason": "max_output_tokens"}),
        Finish::Filter => json!({"reason": "content_filter"}),
    };
    let status = status(finish);
    let completed_at = (finish == Finish::Stop).then_some(stamp.created);
    let output = completion.answers.iter().map(|answer| message(answer, stamp));
    let given = |field: &str, otherwise: Value| match body.get(field) {
        None | Some(Value::Null) => otherwise,
        Some(value) => value.clone(),
    };
    let usage = completion.usage;
    json!({
        "id": format!("resp_{}", stamp.id),
        "object": "response",
        "created_at": stamp.created,
        "status": status,
        "background": false,
        "completed_at": completed_at,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": given("instructions", Value::Null),
        "max_output_tokens": given("max_output_tokens", Value::Null),
        "max_tool_calls": given("max_tool_calls", Value::Null),
        "model": given("model", Value::Null),
        "output": output.collect::<Vec<_>>(),
        "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
        "previous_response_id": null,
        "prompt_cache_key": given("prompt_cache_key", Value::Null),
        "reasoning": given("reasoning", json!({"effort": null, "summary": null})),
        "safety_identifier": given("safety_identifier", Value::Null),
        "service_tier": "default",
        "store": given("store", json!(true)),
        "temperature": given("temperature", json!(1.0)),
        "text": given("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": given("tool_choice", json!("auto")),
        "tools": given("tools", json!([])),
        "top_logprobs": given("top_logprobs", json!(0)),
        "top_p": given("top_p", json!(1.0)),
        "truncation": given("truncation", json!("disabled")),
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        },
        "user": given("user", Value::Null),
        "metadata": given("metadata", json!({})),
    })
}

fn message(answer: &Answer, stamp: &Stamp) -> Value {
    let content = match &answer.said {
        Said::Text(text) => {
            json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
        }
        Said::Refusal(text) => json!({"type": "refusal", "refusal": text}),
    };
    json!({
        "id": format!("msg_{}", stamp.id),
        "type": "message",
        "status": status(answer.finish),
        "content": [content],
        "role": "assistant",
    })
}

fn status(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "completed",
        Finish::Length | Finish::Filter => "incomplete",
    }
}
