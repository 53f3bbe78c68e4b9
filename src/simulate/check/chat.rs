//! The body of `POST /v1/chat/completions`: `CreateChatCompletionRequest` of OpenAI's specification.

use serde_json::Value;

use super::rule::{
    ANY_LENGTH, Field, MapRule, Rule, nullable, optional, required, required_or_null,
};
use super::schema::{self, Place};
use super::{check_json_word, check_sampling, is_reasoning, not_simulated, refuse};
use crate::simulate::chat::turns;
use crate::simulate::reply::Problem;

/// Checks a whole body.
pub(in crate::simulate) fn check(body: &Value) -> Result<(), Problem> {
    Rule::Object(BODY).check_body(body)?;
    check_assistant_messages(body)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    check_limits(body, model)?;
    check_sampling(body, model)?;
    check_format(body)?;
    check_simulated(body)
}

const TEXT: Rule = Rule::Text(ANY_LENGTH);
const ANY_INTEGER: Rule = Rule::Integer(i64::MIN, i64::MAX);

/// The parameters, in the specification's order.
const BODY: &[Field] = &[
    required("messages", Rule::List(1, usize::MAX, &MESSAGE)),
    required("model", TEXT),
    nullable("metadata", METADATA),
    nullable("top_logprobs", Rule::Integer(0, 20)),
    nullable("temperature", Rule::Number(0.0, 2.0)),
    nullable("top_p", Rule::Number(0.0, 1.0)),
    optional("user", TEXT),
    nullable("safety_identifier", Rule::Text(64)),
    nullable("prompt_cache_key", TEXT),
    nullable("prompt_cache_retention", Rule::Word(&["in_memory", "24h"])),
    optional("prompt_cache_options", CACHE_OPTIONS),
    nullable("service_tier", Rule::Word(&["auto", "default", "flex", "scale", "priority", "fast"])),
    nullable("modalities", Rule::List(0, usize::MAX, &Rule::Word(&["text", "audio"]))),
    nullable("verbosity", VERBOSITY),
    nullable("reasoning_effort", EFFORT),
    nullable("max_completion_tokens", Rule::Integer(1, i64::MAX)),
    nullable("frequency_penalty", Rule::Number(-2.0, 2.0)),
    nullable("presence_penalty", Rule::Number(-2.0, 2.0)),
    optional("web_search_options", Rule::Open),
    optional("response_format", RESPONSE_FORMAT),
    nullable("audio", Rule::Open),
    nullable("store", Rule::Flag),
    nullable("moderation", MODERATION),
    nullable("stream", Rule::Flag),
    nullable("stop", Rule::Either(&[TEXT, Rule::List(1, 4, &TEXT)])),
    nullable(
        "logit_bias",
        Rule::Map(MapRule { pairs: 300, key_chars: 20, value: &Rule::Integer(-100, 100) }),
    ),
    nullable("logprobs", Rule::Flag),
    nullable("max_tokens", Rule::Integer(1, i64::MAX)),
    nullable("n", Rule::Integer(1, 128)),
    nullable("prediction", PREDICTION),
    nullable("seed", ANY_INTEGER),
    nullable(
        "stream_options",
        Rule::Object(&[
            optional("include_usage", Rule::Flag),
            optional("include_obfuscation", Rule::Flag),
        ]),
    ),
    optional("tools", Rule::List(0, 128, &TOOL)),
    optional(
        "tool_choice",
        Rule::Either(&[Rule::Word(&["none", "auto", "required"]), TOOL_CHOICE]),
    ),
    optional("parallel_tool_calls", Rule::Flag),
    optional(
        "function_call",
        Rule::Either(&[
            Rule::Word(&["none", "auto"]),
            Rule::Object(&[required("name", Rule::Name)]),
        ]),
    ),
    optional("functions", Rule::List(1, 128, &FUNCTION)),
];

pub(super) const METADATA: Rule =
    Rule::Map(MapRule { pairs: 16, key_chars: 64, value: &Rule::Text(512) });
pub(super) const VERBOSITY: Rule = Rule::Word(&["low", "medium", "high"]);
pub(super) const EFFORT: Rule =
    Rule::Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]);
pub(super) const CACHE_OPTIONS: Rule = Rule::Object(&[
    optional("ttl", Rule::Word(&["30m"])),
    optional("mode", Rule::Word(&["implicit", "explicit"])),
]);
pub(super) const CACHE_BREAKPOINT: Rule =
    Rule::Object(&[required("mode", Rule::Word(&["explicit"]))]);
pub(super) const MODERATION: Rule = Rule::Object(&[
    required("model", TEXT),
    nullable(
        "policy",
        Rule::Object(&[nullable("input", MODERATED), nullable("output", MODERATED)]),
    ),
]);
const MODERATED: Rule = Rule::Object(&[required("mode", Rule::Word(&["score", "block"]))]);

const RESPONSE_FORMAT: Rule = Rule::Tagged(
    "type",
    None,
    &[
        ("text", Rule::Object(&[TYPE])),
        (
            "json_schema",
            Rule::Object(&[
                TYPE,
                required(
                    "json_schema",
                    Rule::Object(&[
                        optional("description", TEXT),
                        required("name", Rule::Name),
                        optional("schema", Rule::Open),
                        nullable("strict", Rule::Flag),
                    ]),
                ),
            ]),
        ),
        ("json_object", Rule::Object(&[TYPE])),
    ],
);

/// The field that a tagged object was chosen by, and that needs no second look.
const TYPE: Field = required("type", Rule::Anything);
const ROLE: Field = required("role", Rule::Anything);

const MESSAGE: Rule = Rule::Tagged(
    "role",
    None,
    &[
        ("developer", INSTRUCTIONS),
        ("system", INSTRUCTIONS),
        (
            "user",
            Rule::Object(&[
                ROLE,
                required("content", Rule::TextOr(&USER_PART)),
                optional("name", TEXT),
            ]),
        ),
        (
            "assistant",
            Rule::Object(&[
                ROLE,
                nullable("content", Rule::TextOr(&ASSISTANT_PART)),
                nullable("refusal", TEXT),
                optional("name", TEXT),
                nullable("audio", Rule::Object(&[required("id", TEXT)])),
                optional("tool_calls", Rule::List(0, usize::MAX, &TOOL_CALL)),
                nullable(
                    "function_call",
                    Rule::Object(&[required("arguments", TEXT), required("name", TEXT)]),
                ),
                // Sent back as it came in a reply.
                optional("annotations", Rule::List(0, usize::MAX, &Rule::Open)),
            ]),
        ),
        (
            "tool",
            Rule::Object(&[
                ROLE,
                required("content", Rule::TextOr(&TEXT_PART)),
                required("tool_call_id", TEXT),
            ]),
        ),
        (
            "function",
            Rule::Object(&[ROLE, required_or_null("content", TEXT), required("name", TEXT)]),
        ),
    ],
);

const INSTRUCTIONS: Rule =
    Rule::Object(&[ROLE, required("content", Rule::TextOr(&TEXT_PART)), optional("name", TEXT)]);

const BREAKPOINT: Field = optional("prompt_cache_breakpoint", CACHE_BREAKPOINT);
const PLAIN_PART: Rule = Rule::Object(&[TYPE, required("text", TEXT), BREAKPOINT]);

const TEXT_PART: Rule = Rule::Tagged("type", None, &[("text", PLAIN_PART)]);

const ASSISTANT_PART: Rule = Rule::Tagged(
    "type",
    None,
    &[("text", PLAIN_PART), ("refusal", Rule::Object(&[TYPE, required("refusal", TEXT)]))],
);

const USER_PART: Rule = Rule::Tagged(
    "type",
    None,
    &[
        ("text", PLAIN_PART),
        ("image_url", Rule::Object(&[TYPE, required("image_url", IMAGE), BREAKPOINT])),
        ("input_audio", Rule::Object(&[TYPE, required("input_audio", SOUND), BREAKPOINT])),
        ("file", Rule::Object(&[TYPE, required("file", FILE), BREAKPOINT])),
    ],
);

const IMAGE: Rule = Rule::Object(&[
    required("url", TEXT),
    optional("detail", Rule::Word(&["auto", "low", "high"])),
]);
const SOUND: Rule =
    Rule::Object(&[required("data", TEXT), required("format", Rule::Word(&["wav", "mp3"]))]);
const FILE: Rule = Rule::Object(&[
    optional("filename", TEXT),
    optional("file_data", TEXT),
    optional("file_id", TEXT),
]);

const PREDICTION: Rule = Rule::Object(&[
    required("type", Rule::Word(&["content"])),
    required("content", Rule::TextOr(&TEXT_PART)),
]);

const FUNCTION: Rule = Rule::Object(&[
    optional("description", TEXT),
    required("name", Rule::Name),
    optional("parameters", Rule::Open),
    nullable("strict", Rule::Flag),
]);

const TOOL: Rule = Rule::Tagged(
    "type",
    None,
    &[
        ("function", Rule::Object(&[TYPE, required("function", Rule::Same(&FUNCTION))])),
        ("custom", Rule::Object(&[TYPE, required("custom", Rule::Open)])),
    ],
);

const TOOL_CALL: Rule = Rule::Tagged(
    "type",
    None,
    &[
        (
            "function",
            Rule::Object(&[
                TYPE,
                required("id", TEXT),
                required(
                    "function",
                    Rule::Object(&[required("name", TEXT), required("arguments", TEXT)]),
                ),
            ]),
        ),
        (
            "custom",
            Rule::Object(&[
                TYPE,
                required("id", TEXT),
                required(
                    "custom",
                    Rule::Object(&[required("name", TEXT), required("input", TEXT)]),
                ),
            ]),
        ),
    ],
);

const NAMED: Rule = Rule::Object(&[required("name", TEXT)]);
const TOOL_CHOICE: Rule = Rule::Tagged(
    "type",
    None,
    &[
        ("function", Rule::Object(&[TYPE, required("function", NAMED)])),
        ("custom", Rule::Object(&[TYPE, required("custom", NAMED)])),
        ("allowed_tools", Rule::Object(&[TYPE, required("allowed_tools", Rule::Open)])),
    ],
);

/// The assistant's content may be absent only where it called a tool instead.
fn check_assistant_messages(body: &Value) -> Result<(), Problem> {
    let messages = body.get("messages").and_then(Value::as_array);
    for (index, message) in messages.into_iter().flatten().enumerate() {
        let has = |field: &str| message.get(field).is_some_and(|value| !value.is_null());
        let says_something = ["content", "refusal", "tool_calls", "function_call", "audio"];
        if message["role"] == "assistant" && !says_something.into_iter().any(has) {
            let param = format!("messages[{index}].content");
            let message = format!("Missing required parameter: '{param}'.");
            return Err(Problem::invalid(&param, "missing_required_parameter", message));
        }
    }
    Ok(())
}

fn check_limits(body: &Value, model: &str) -> Result<(), Problem> {
    let has = |param: &str| body.get(param).is_some_and(|value| !value.is_null());
    if has("max_tokens") && is_reasoning(model) {
        return Err(Problem::invalid(
            "max_tokens",
            "unsupported_parameter",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
             'max_completion_tokens' instead.",
        ));
    }
    if has("max_tokens") && has("max_completion_tokens") {
        return Err(Problem::invalid(
            "max_tokens",
            "invalid_parameter_combination",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        ));
    }
    if has("top_logprobs") && body.get("logprobs") != Some(&Value::Bool(true)) {
        return Err(Problem::invalid(
            "top_logprobs",
            "invalid_parameter_combination",
            "'logprobs' must be set to true to use 'top_logprobs'.",
        ));
    }
    Ok(())
}

fn check_format(body: &Value) -> Result<(), Problem> {
    let Some(format) = body.get("response_format") else { return Ok(()) };
    match format["type"].as_str() {
        Some("json_object") => {
            let texts = turns(body);
            let texts: Vec<_> = texts.into_iter().flat_map(|turn| turn.texts).collect();
            check_json_word(&texts, "messages", "response_format")
        }
        Some("json_schema") => {
            let format = &format["json_schema"];
            let Some(schema) = format.get("schema") else {
                let param = "response_format.json_schema.schema";
                let message = format!("Missing required parameter: '{param}'.");
                return Err(Problem::invalid(param, "missing_required_parameter", message));
            };
            let name = format["name"].as_str().unwrap_or_default();
            let strict = format["strict"].as_bool().unwrap_or(false);
            schema::check(schema, strict, Place { param: "response_format", name })
        }
        _ => Ok(()),
    }
}

fn check_simulated(body: &Value) -> Result<(), Problem> {
    refuse(body, "stream", "stream")?;
    if body.get("stream_options").is_some_and(|options| !options.is_null()) {
        return Err(Problem::invalid(
            "stream_options",
            "invalid_parameter_combination",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    refuse(body, "logprobs", "give log probabilities")?;
    refuse(body, "audio", "speak")?;
    refuse(body, "web_search_options", "search the web")?;
    refuse(body, "moderation", "moderate")?;
    let speaks =
        body["modalities"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "audio"));
    if speaks {
        return Err(not_simulated("modalities", "speak"));
    }
    for param in ["tool_choice", "function_call"] {
        let choice = body.get(param);
        if choice.is_some_and(|choice| choice != "none" && choice != "auto") {
            return Err(not_simulated(param, "call tools"));
        }
    }
    Ok(())
}
