//! The body of `POST /v1/responses`: `CreateResponse` of OpenAI's specification.

use serde_json::Value;

use super::chat::{CACHE_BREAKPOINT, CACHE_OPTIONS, EFFORT, METADATA, MODERATION, VERBOSITY};
use super::rule::{ANY_LENGTH, Field, Rule, nullable, optional, required};
use super::schema::{self, Place};
use super::{check_json_word, check_sampling, not_simulated, refuse};
use crate::simulate::reply::Problem;
use crate::simulate::responses::turns;

/// Checks a whole body.
pub(in crate::simulate) fn check(body: &Value) -> Result<(), Problem> {
    Rule::Object(BODY).check_body(body)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    check_sampling(body, model)?;
    check_format(body)?;
    check_simulated(body)
}

const TEXT: Rule = Rule::Text(ANY_LENGTH);
/// OpenAI's own bound on one text of an input item.
const LONG_TEXT: Rule = Rule::Text(10_485_760);

/// The parameters, in the specification's order.
///
/// `model` and `input` are optional there, for calls that name a stored prompt, which the
/// simulator has none of.
const BODY: &[Field] = &[
    required("model", TEXT),
    required("input", Rule::Either(&[LONG_TEXT, Rule::List(0, usize::MAX, &ITEM)])),
    nullable("metadata", METADATA),
    nullable("top_logprobs", Rule::Integer(0, 20)),
    nullable("temperature", Rule::Number(0.0, 2.0)),
    nullable("top_p", Rule::Number(0.0, 1.0)),
    optional("user", TEXT),
    nullable("safety_identifier", Rule::Text(64)),
    nullable("prompt_cache_key", TEXT),
    nullable("prompt_cache_retention", Rule::Word(&["in_memory", "24h"])),
    optional("prompt_cache_options", CACHE_OPTIONS),
    nullable("previous_response_id", TEXT),
    nullable("background", Rule::Flag),
    nullable("max_tool_calls", Rule::Integer(i64::MIN, i64::MAX)),
    optional("text", Rule::Object(&[optional("format", FORMAT), nullable("verbosity", VERBOSITY)])),
    optional("tools", Rule::List(0, usize::MAX, &TOOL)),
    optional("tool_choice", Rule::Either(&[Rule::Word(&["none", "auto", "required"]), Rule::Open])),
    nullable("prompt", Rule::Open),
    nullable(
        "service_tier",
        Rule::Word(&["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]),
    ),
    nullable("truncation", Rule::Word(&["auto", "disabled"])),
    nullable("reasoning", REASONING),
    nullable("include", Rule::List(0, usize::MAX, &INCLUDED)),
    nullable("parallel_tool_calls", Rule::Flag),
    nullable("store", Rule::Flag),
    nullable("instructions", TEXT),
    nullable("moderation", MODERATION),
    nullable("stream", Rule::Flag),
    nullable("stream_options", Rule::Object(&[optional("include_obfuscation", Rule::Flag)])),
    nullable("conversation", Rule::Either(&[TEXT, Rule::Object(&[required("id", TEXT)])])),
    nullable("context_management", Rule::List(1, usize::MAX, &Rule::Open)),
    nullable("max_output_tokens", Rule::Integer(16, i64::MAX)),
];

const INCLUDED: Rule = Rule::Word(&[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]);

const SUMMARY: Rule = Rule::Word(&["auto", "concise", "detailed"]);
const REASONING: Rule = Rule::Object(&[
    optional("mode", TEXT),
    nullable("effort", EFFORT),
    nullable("summary", SUMMARY),
    nullable("context", Rule::Word(&["auto", "current_turn", "all_turns"])),
    nullable("generate_summary", SUMMARY),
]);

const FORMAT: Rule = Rule::Tagged(
    "type",
    None,
    &[
        ("text", Rule::Object(&[TYPE])),
        (
            "json_schema",
            Rule::Object(&[
                TYPE,
                optional("description", TEXT),
                required("name", Rule::Name),
                required("schema", Rule::Open),
                nullable("strict", Rule::Flag),
            ]),
        ),
        ("json_object", Rule::Object(&[TYPE])),
    ],
);

/// The field that a tagged object was chosen by, and that needs no second look.
const TYPE: Field = required("type", Rule::Anything);
const ROLE: Field = required("role", Rule::Anything);
const STATUS: Field = optional("status", Rule::Word(&["in_progress", "completed", "incomplete"]));
const KIND: Field = optional("type", Rule::Word(&["message"]));

/// An item of the input: a message (the default), or what an earlier response put out.
///
/// Only messages are looked into; the others are let through, and counted as nothing.
const ITEM: Rule = Rule::Tagged(
    "type",
    Some("message"),
    &[
        ("message", Rule::Same(&MESSAGE)),
        ("item_reference", Rule::Object(&[TYPE, required("id", TEXT)])),
        ("reasoning", Rule::Open),
        ("function_call", Rule::Open),
        ("function_call_output", Rule::Open),
        ("custom_tool_call", Rule::Open),
        ("custom_tool_call_output", Rule::Open),
        ("file_search_call", Rule::Open),
        ("web_search_call", Rule::Open),
        ("computer_call", Rule::Open),
        ("computer_call_output", Rule::Open),
        ("tool_search_call", Rule::Open),
        ("tool_search_output", Rule::Open),
        ("additional_tools", Rule::Open),
        ("image_generation_call", Rule::Open),
        ("code_interpreter_call", Rule::Open),
        ("local_shell_call", Rule::Open),
        ("local_shell_call_output", Rule::Open),
        ("shell_call", Rule::Open),
        ("shell_call_output", Rule::Open),
        ("apply_patch_call", Rule::Open),
        ("apply_patch_call_output", Rule::Open),
        ("mcp_list_tools", Rule::Open),
        ("mcp_approval_request", Rule::Open),
        ("mcp_approval_response", Rule::Open),
        ("mcp_call", Rule::Open),
        ("compaction", Rule::Open),
        ("compaction_trigger", Rule::Open),
        ("program", Rule::Open),
        ("program_output", Rule::Open),
    ],
);

const MESSAGE: Rule = Rule::Tagged(
    "role",
    None,
    &[
        ("user", ASKED),
        ("system", ASKED),
        ("developer", ASKED),
        (
            "assistant",
            Rule::Object(&[
                KIND,
                ROLE,
                STATUS,
                optional("id", TEXT),
                nullable("phase", Rule::Word(&["commentary", "final_answer"])),
                required("content", Rule::TextOr(&SAID_PART)),
            ]),
        ),
    ],
);

const ASKED: Rule = Rule::Object(&[
    KIND,
    ROLE,
    STATUS,
    nullable("phase", Rule::Word(&["commentary", "final_answer"])),
    required("content", Rule::TextOr(&ASKED_PART)),
]);

const BREAKPOINT: Field = nullable("prompt_cache_breakpoint", CACHE_BREAKPOINT);

const ASKED_PART: Rule = Rule::Tagged(
    "type",
    None,
    &[
        ("input_text", Rule::Object(&[TYPE, required("text", LONG_TEXT), BREAKPOINT])),
        (
            "input_image",
            Rule::Object(&[
                TYPE,
                nullable("image_url", Rule::Text(20_971_520)),
                nullable("file_id", TEXT),
                nullable("detail", Rule::Word(&["low", "high", "auto", "original"])),
                BREAKPOINT,
            ]),
        ),
        (
            "input_file",
            Rule::Object(&[
                TYPE,
                nullable("file_id", TEXT),
                nullable("filename", TEXT),
                nullable("file_data", Rule::Text(73_400_320)),
                nullable("file_url", TEXT),
                optional("detail", Rule::Word(&["auto", "low", "high"])),
                BREAKPOINT,
            ]),
        ),
    ],
);

const SAID_PART: Rule = Rule::Tagged(
    "type",
    None,
    &[
        (
            "output_text",
            Rule::Object(&[
                TYPE,
                required("text", LONG_TEXT),
                optional("annotations", Rule::List(0, usize::MAX, &Rule::Open)),
                optional("logprobs", Rule::List(0, usize::MAX, &Rule::Open)),
            ]),
        ),
        ("refusal", Rule::Object(&[TYPE, required("refusal", TEXT)])),
    ],
);

/// A tool; of the many kinds, functions are looked into.
const TOOL: Rule = Rule::Tagged(
    "type",
    None,
    &[
        (
            "function",
            Rule::Object(&[
                TYPE,
                required("name", Rule::Name),
                nullable("description", TEXT),
                nullable("parameters", Rule::Open),
                nullable("strict", Rule::Flag),
                nullable("output_schema", Rule::Open),
                optional("defer_loading", Rule::Flag),
                nullable("allowed_callers", Rule::List(1, usize::MAX, &TEXT)),
            ]),
        ),
        ("custom", Rule::Open),
        ("file_search", Rule::Open),
        ("web_search", Rule::Open),
        ("web_search_preview", Rule::Open),
        ("computer", Rule::Open),
        ("computer_use_preview", Rule::Open),
        ("code_interpreter", Rule::Open),
        ("image_generation", Rule::Open),
        ("mcp", Rule::Open),
        ("local_shell", Rule::Open),
        ("shell", Rule::Open),
        ("apply_patch", Rule::Open),
        ("namespace", Rule::Open),
        ("tool_search", Rule::Open),
    ],
);

fn check_format(body: &Value) -> Result<(), Problem> {
    let format = &body["text"]["format"];
    match format["type"].as_str() {
        Some("json_object") => {
            let texts: Vec<_> = turns(body).into_iter().flat_map(|turn| turn.texts).collect();
            check_json_word(&texts, "input", "text.format")
        }
        Some("json_schema") => {
            let name = format["name"].as_str().unwrap_or_default();
            // Left out, strictness is tried at first by OpenAI and then let go.
            let strict = format["strict"].as_bool().unwrap_or(false);
            schema::check(&format["schema"], strict, Place { param: "text.format.schema", name })
        }
        _ => Ok(()),
    }
}

fn check_simulated(body: &Value) -> Result<(), Problem> {
    refuse(body, "stream", "stream")?;
    refuse(body, "background", "answer in the background")?;
    refuse(body, "previous_response_id", "remember earlier responses")?;
    refuse(body, "conversation", "keep conversations")?;
    refuse(body, "prompt", "store prompts")?;
    refuse(body, "moderation", "moderate")?;
    if body.get("stream_options").is_some_and(|options| !options.is_null()) {
        return Err(Problem::invalid(
            "stream_options",
            "invalid_parameter_combination",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    match body.get("tool_choice") {
        None => Ok(()),
        Some(choice) if choice == "none" || choice == "auto" => Ok(()),
        Some(_) => Err(not_simulated("tool_choice", "call tools")),
    }
}
