//! Bodies that OpenAI takes, and bodies that it refuses, each with the code and the parameter.

use serde_json::{Value, json};

use super::{chat, is_reasoning, responses};
use crate::simulate::reply::Problem;

/// A good body of each endpoint, with `changes` laid over it; `null` at the top removes nothing.
fn chat_with(changes: Value) -> Result<(), Problem> {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
    chat::check(&laid_over(body, changes))
}

fn responses_with(changes: Value) -> Result<(), Problem> {
    responses::check(&laid_over(json!({"model": "m", "input": "Hello"}), changes))
}

fn laid_over(mut body: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn refused(result: Result<(), Problem>, changes: &Value) -> (Option<String>, &'static str, String) {
    let problem = result.expect_err(&format!("taken: {changes}"));
    assert_eq!(problem.status, 400);
    (problem.param, problem.code.unwrap_or("-"), problem.message)
}

fn format(strict: bool, schema: Value) -> Value {
    let inner = json!({"name": "answer", "strict": strict, "schema": schema});
    json!({"response_format": {"type": "json_schema", "json_schema": inner}})
}

#[test]
fn good_chat_bodies_are_taken() {
    let closed = json!({"type": "object", "additionalProperties": false, "required": ["a"],
        "properties": {"a": {"type": ["string", "null"]}}});
    for changes in [
        json!({}),
        json!({"temperature": 0, "top_p": 1, "n": 128, "seed": -1, "max_tokens": 1}),
        json!({"temperature": null, "max_completion_tokens": null, "stop": null, "metadata": null}),
        json!({"stop": ["a", "b", "c", "d"], "metadata": {"k": "v"}, "store": false}),
        json!({"reasoning_effort": "xhigh", "verbosity": "low", "service_tier": "flex"}),
        json!({"logit_bias": {"50256": -100}, "user": "u", "prompt_cache_key": "k"}),
        json!({"response_format": {"type": "text"}, "stream": false}),
        json!({"response_format": {"type": "json_object"},
            "messages": [{"role": "system", "content": "Reply in JSON."}]}),
        format(true, closed),
        format(false, json!({"type": "object", "properties": {"a": {}}})),
        json!({"messages": [
            {"role": "developer", "content": [{"type": "text", "text": "t"}], "name": "n"},
            {"role": "user", "content": [{"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
                "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "4", "tool_call_id": "1"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "function", "content": null, "name": "f"}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": "auto"}),
        json!({"model": "gpt-5-mini", "max_completion_tokens": 5, "temperature": 1}),
        json!({"model": "gpt-4.1", "max_tokens": 5, "temperature": 0.3}),
    ] {
        assert_eq!(chat_with(changes.clone()), Ok(()), "{changes}");
    }
}

#[test]
fn messages_of_a_wrong_shape_are_refused_by_name() {
    all_refused(&[
        (json!({"messages": []}), "messages", "empty_array"),
        (json!({"messages": "Hello"}), "messages", "invalid_type"),
        (json!({"messages": null}), "messages", "invalid_type"),
        (json!({"messages": ["Hello"]}), "messages[0]", "invalid_type"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "missing_required_parameter"),
        (
            json!({"messages": [{"role": "bot", "content": "x"}]}),
            "messages[0].role",
            "invalid_value",
        ),
        (json!({"messages": [{"role": 1, "content": "x"}]}), "messages[0].role", "invalid_type"),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
            "missing_required_parameter",
        ),
        (
            json!({"messages": [{"role": "user", "content": null}]}),
            "messages[0].content",
            "invalid_type",
        ),
        (
            json!({"messages": [{"role": "user", "content": []}]}),
            "messages[0].content",
            "empty_array",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x", "id": 1}]}),
            "messages[0].id",
            "unknown_parameter",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "texts"}]}]}),
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            json!({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            json!({"messages": [{"role": "assistant"}]}),
            "messages[0].content",
            "missing_required_parameter",
        ),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
    ]);
}

#[test]
fn parameters_out_of_bounds_are_refused_by_name() {
    all_refused(&[
        (json!({"max_token": 5}), "max_token", "unknown_parameter"),
        (json!({"model": 5}), "model", "invalid_type"),
        (json!({"temperature": 2.1}), "temperature", "decimal_above_max_value"),
        (json!({"temperature": -0.1}), "temperature", "decimal_below_min_value"),
        (json!({"temperature": "0"}), "temperature", "invalid_type"),
        (json!({"top_p": 1.5}), "top_p", "decimal_above_max_value"),
        (json!({"n": 0}), "n", "integer_below_min_value"),
        (json!({"n": 129}), "n", "integer_above_max_value"),
        (json!({"n": 1.5}), "n", "invalid_type"),
        (json!({"max_tokens": 0}), "max_tokens", "integer_below_min_value"),
        (json!({"max_completion_tokens": "9"}), "max_completion_tokens", "invalid_type"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", "array_above_max_length"),
        (json!({"stop": []}), "stop", "empty_array"),
        (json!({"stop": 1}), "stop", "invalid_type"),
        (json!({"stop": [1]}), "stop[0]", "invalid_type"),
        (json!({"metadata": {"k": 1}}), "metadata.k", "invalid_type"),
        (json!({"metadata": {"k": "v".repeat(513)}}), "metadata.k", "string_above_max_length"),
        (
            json!({"metadata": {"k".repeat(65): "v"}}),
            &format!("metadata.{}", "k".repeat(64)),
            "string_above_max_length",
        ),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort", "invalid_value"),
        (json!({"service_tier": "ultrafast"}), "service_tier", "invalid_value"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias.1", "integer_above_max_value"),
        (json!({"top_logprobs": 21}), "top_logprobs", "integer_above_max_value"),
        (json!({"top_logprobs": 2}), "top_logprobs", "invalid_parameter_combination"),
        (
            json!({"safety_identifier": "x".repeat(65)}),
            "safety_identifier",
            "string_above_max_length",
        ),
        (json!({"user": null}), "user", "invalid_type"),
        (json!({"model": "gpt-5-mini", "max_tokens": 5}), "max_tokens", "unsupported_parameter"),
        (json!({"model": "o3", "max_tokens": 5}), "max_tokens", "unsupported_parameter"),
        (json!({"model": "gpt-5-mini", "temperature": 0}), "temperature", "unsupported_value"),
        (json!({"stream": true}), "stream", "unsupported_by_simulator"),
        (json!({"stream_options": {}}), "stream_options", "invalid_parameter_combination"),
        (json!({"logprobs": true}), "logprobs", "unsupported_by_simulator"),
        (json!({"tool_choice": "required"}), "tool_choice", "unsupported_by_simulator"),
        (json!({"tool_choice": "any"}), "tool_choice", "invalid_value"),
        (
            json!({"tools": [{"type": "function"}]}),
            "tools[0].function",
            "missing_required_parameter",
        ),
        (json!({"functions": []}), "functions", "empty_array"),
    ]);
}

#[test]
fn formats_of_a_wrong_shape_are_refused_by_name() {
    all_refused(&[
        (json!({"response_format": "json"}), "response_format", "invalid_type"),
        (json!({"response_format": {"type": "yaml"}}), "response_format.type", "invalid_value"),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            json!({"response_format": {"type": "json_schema", "schema": {}}}),
            "response_format.schema",
            "unknown_parameter",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}),
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x".repeat(65), "schema": {}}}}),
            "response_format.json_schema.name",
            "string_above_max_length",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (json!({"response_format": {"type": "json_object"}}), "messages", "-"),
        (
            json!({"max_tokens": 5, "max_completion_tokens": 5}),
            "max_tokens",
            "invalid_parameter_combination",
        ),
    ]);
}

fn all_refused(table: &[(Value, &str, &str)]) {
    for (changes, param, code) in table {
        let (got_param, got_code, message) = refused(chat_with(changes.clone()), changes);
        assert_eq!(got_code, *code, "{changes}: {message}");
        assert_eq!(got_param.as_deref(), Some(*param), "{changes}: {message}");
    }
}

#[test]
fn what_is_no_body_at_all_is_refused() {
    for body in [json!([]), json!(null), json!("x"), json!({}), json!({"model": "m"})] {
        assert!(chat::check(&body).is_err() && responses::check(&body).is_err(), "{body}");
    }
}

#[test]
fn refusals_read_as_openais_do() {
    let message = |changes: Value| refused(chat_with(changes.clone()), &changes).2;
    assert_eq!(message(json!({"max_token": 5})), "Unknown parameter: 'max_token'.");
    assert_eq!(
        message(json!({"messages": "Hello"})),
        "Invalid type for 'messages': expected an array of objects, but got a string instead."
    );
    assert_eq!(
        message(json!({"n": 0})),
        "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead."
    );
    assert_eq!(
        message(json!({"messages": []})),
        "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an \
         empty array instead."
    );
    assert_eq!(
        message(json!({"verbosity": "shrill"})),
        "Invalid value: 'shrill'. Supported values are: 'low', 'medium', and 'high'."
    );
}

#[test]
fn strict_schemas_must_be_closed_and_complete() {
    let complaint = |schema: Value| {
        let changes = format(true, schema);
        let (param, code, message) = refused(chat_with(changes.clone()), &changes);
        assert_eq!((param.as_deref(), code), (Some("response_format"), "invalid_json_schema"));
        message
    };
    let object = |properties: Value, required: Value| {
        json!({"type": "object", "additionalProperties": false, "properties": properties,
            "required": required})
    };
    assert!(complaint(json!({"type": "array"})).contains("got 'type: \"array\"'"));
    assert!(complaint(json!({})).contains("got 'type: None'"));
    assert!(complaint(json!({"type": "object"})).contains("'additionalProperties' is required"));
    assert!(complaint(object(json!({"a": {}, "b": {}}), json!(["a"]))).contains("Missing 'b'"));
    let inner = object(json!({"a": {"type": "object"}}), json!(["a"]));
    assert!(complaint(inner).contains("In context=('properties', 'a'), 'additionalProperties'"));
    let listed = object(json!({"a": {"type": "array"}}), json!(["a"]));
    assert!(complaint(listed).contains("array schema missing items"));
    let all = object(json!({"a": {"allOf": []}}), json!(["a"]));
    assert!(complaint(all).contains("'allOf' is not permitted"));
    let lost = object(json!({"a": {"$ref": "#/$defs/x"}}), json!(["a"]));
    assert!(complaint(lost).contains("not found in the schema"));
    let deep = (0..12)
        .fold(json!({"type": "string"}), |inner, _| object(json!({"a": inner}), json!(["a"])));
    assert!(complaint(deep).contains("10 levels"));
    let recursive =
        object(json!({"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}), json!(["next"]));
    assert_eq!(chat_with(format(true, recursive)), Ok(()));
}

#[test]
fn good_responses_bodies_are_taken() {
    for changes in [
        json!({}),
        json!({"instructions": "Be brief.", "max_output_tokens": 16, "store": false}),
        json!({"reasoning": {"effort": "low", "summary": null}, "truncation": "auto"}),
        json!({"input": [{"role": "user", "content": "Hi"}]}),
        json!({"input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
                "content": [{"type": "output_text", "text": "Ho", "annotations": []}]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "item_reference", "id": "x"}]}),
        json!({"text": {"format": {"type": "json_schema", "name": "a", "strict": true, "schema":
            {"type": "object", "additionalProperties": false, "properties": {}, "required": []}}}}),
        json!({"text": {"verbosity": "high"}, "service_tier": "ultrafast", "include": []}),
    ] {
        assert_eq!(responses_with(changes.clone()), Ok(()), "{changes}");
    }
}

#[test]
fn bad_responses_bodies_are_refused_by_name() {
    let table = [
        (json!({"messages": []}), "messages", "unknown_parameter"),
        (json!({"max_tokens": 5}), "max_tokens", "unknown_parameter"),
        (json!({"seed": 5}), "seed", "unknown_parameter"),
        (json!({"stop": "x"}), "stop", "unknown_parameter"),
        (json!({"response_format": {}}), "response_format", "unknown_parameter"),
        (json!({"max_output_tokens": 15}), "max_output_tokens", "integer_below_min_value"),
        (json!({"input": 5}), "input", "invalid_type"),
        (json!({"input": [{"content": "x"}]}), "input[0].role", "missing_required_parameter"),
        (json!({"input": [{"type": "msg"}]}), "input[0].type", "invalid_value"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            json!({"text": {"format": {"type": "json_schema", "json_schema": {}}}}),
            "text.format.json_schema",
            "unknown_parameter",
        ),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "a"}}}),
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "a", "strict": true, "schema": {"type": "object"}}}}),
            "text.format.schema",
            "invalid_json_schema",
        ),
        (json!({"text": {"format": {"type": "json_object"}}}), "input", "-"),
        (json!({"reasoning": {"effort": "most"}}), "reasoning.effort", "invalid_value"),
        (json!({"reasoning_effort": "low"}), "reasoning_effort", "unknown_parameter"),
        (json!({"background": true}), "background", "unsupported_by_simulator"),
        (json!({"stream": true}), "stream", "unsupported_by_simulator"),
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
            "unsupported_by_simulator",
        ),
        (json!({"include": ["everything"]}), "include[0]", "invalid_value"),
    ];
    for (changes, param, code) in table {
        let (got_param, got_code, message) = refused(responses_with(changes.clone()), &changes);
        assert_eq!(got_code, code, "{changes}: {message}");
        assert_eq!(got_param.as_deref(), Some(param), "{changes}: {message}");
    }
    let (param, code, _) = refused(responses::check(&json!({"model": "m"})), &json!({}));
    assert_eq!((param.as_deref(), code), (Some("input"), "missing_required_parameter"));
}

#[test]
fn models_that_reason_are_told_by_their_names() {
    for name in
        ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.4-nano", "gpt-6-luna", "gpt-10"]
    {
        assert!(is_reasoning(name), "{name}");
    }
    for name in ["gpt-4o", "gpt-4.1-mini", "gpt-oss-120b", "o", "o1x", "small", "gpt-", "claude-5"]
    {
        assert!(!is_reasoning(name), "{name}");
    }
}
