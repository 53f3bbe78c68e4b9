use serde_json::json;

use super::*;
use crate::domain::{Role, TokenLimitField};

fn defaults() -> PromptDefaults {
    PromptDefaults {
        model: ModelName::parse("gpt-5-mini"),
        max_tokens: None,
        base_url: BaseUrl::Own,
        structured: Structured::Schema,
    }
}

fn parse_with(text: &str, defaults: &PromptDefaults) -> Result<ParsedPrompt, PromptError> {
    parse(text, defaults, &mut |path| match path {
        "good.json" => Ok("\u{feff}{\"type\":\"object\"}".to_owned()),
        "bad.json" => Ok("{".to_owned()),
        _ => Err("no such file".to_owned()),
    })
}

fn spec(text: &str) -> PromptSpec {
    parse_with(text, &defaults()).unwrap().spec
}

/// A prompt with these lines of front matter, the first of which is line 2.
fn front(lines: &str) -> Result<ParsedPrompt, PromptError> {
    parse_with(&format!("---\n{lines}\n---\n{{{{ text }}}}\n"), &defaults())
}

fn front_spec(lines: &str) -> PromptSpec {
    front(lines).unwrap().spec
}

fn front_error(lines: &str) -> String {
    front(lines).unwrap_err().to_string()
}

fn error(text: &str) -> String {
    parse_with(text, &defaults()).unwrap_err().to_string()
}

fn texts(spec: &PromptSpec) -> Vec<(Role, &str)> {
    spec.messages.iter().map(|message| (message.role, message.template.as_str())).collect()
}

#[test]
fn a_bare_text_is_one_user_message_with_the_defaults() {
    let text = "\n  Is this good?\n\n{{ text }}  \n\n";
    let spec = spec(text);
    assert_eq!(texts(&spec), [(Role::User, "  Is this good?\n\n{{ text }}  ")]);
    assert_eq!(spec.source, text);
    assert_eq!(spec.model.to_string(), "openai/gpt-5-mini");
    assert_eq!(spec.endpoint, Endpoint::ChatCompletions);
    assert_eq!((spec.max_tokens, spec.max_tokens_limit), (None, None));
    assert_eq!(spec.token_limit_field, TokenLimitField::MaxCompletionTokens);
    assert_eq!((spec.answer, spec.structured), (AnswerFormat::Text, Structured::Schema));
    assert!(spec.parameters.is_empty());
}

#[test]
fn every_key_is_read() {
    let text = "---\nname: sentiment\nmodel: groq/openai/gpt-oss-20b\nendpoint: chat/completions\n\
                max_tokens: 20\nmax_tokens_limit: 50\ntemperature: 0.5\nchoices:\n- good\n- bad\n\
                structured_outputs: false\nparameters:\n  seed: 7\n  top_p: 0.9\n---\nx";
    let ParsedPrompt { name, spec } =
        parse_with(text, &PromptDefaults { model: None, ..defaults() }).unwrap();
    assert_eq!(name.as_deref(), Some("sentiment"));
    assert_eq!(spec.model.to_string(), "groq/openai/gpt-oss-20b");
    assert_eq!((spec.max_tokens, spec.max_tokens_limit), (Some(20), Some(50)));
    assert_eq!(spec.token_limit_field, TokenLimitField::MaxTokens);
    assert_eq!(spec.answer, AnswerFormat::Choices(vec!["good".into(), "bad".into()]));
    assert_eq!(spec.structured, Structured::Words);
    assert_eq!(
        Value::from(spec.parameters).to_string(),
        r#"{"temperature":0.5,"seed":7,"top_p":0.9}"#
    );
}

#[test]
fn the_command_line_wins_over_the_file() {
    let defaults = PromptDefaults { max_tokens: Some(30), ..defaults() };
    let text = "---\nmodel: other\nmax_tokens: 9\n---\nx";
    let spec = parse_with(text, &defaults).unwrap().spec;
    assert_eq!(spec.model.model, "gpt-5-mini");
    assert_eq!((spec.max_tokens, spec.max_tokens_limit), (Some(30), Some(120)));
    let text = "---\nmax_tokens_limit: 20\n---\nx";
    let error = parse_with(text, &defaults).unwrap_err().to_string();
    assert_eq!(error, "line 2 of the prompt: `max_tokens_limit` (20) is below `max_tokens` (30)");
    let zero = PromptDefaults { max_tokens: Some(0), ..defaults };
    assert!(parse_with("x", &zero).unwrap_err().to_string().contains("at least 1"));
}

#[test]
fn without_any_model_the_error_says_how_to_name_one() {
    let defaults = PromptDefaults { model: None, ..defaults() };
    let error = parse_with("x", &defaults).unwrap_err().to_string();
    assert!(error.contains("--model") && error.contains("`model:`"), "{error}");
}

#[test]
fn role_lines_start_messages() {
    let spec = spec(
        "\n\nsystem:\nBe brief.\n\n\nUSER:  \nQ1\nassistant:\n\n A1 \nUser:\nnot a user: line\n user:\n",
    );
    assert_eq!(
        texts(&spec),
        [
            (Role::System, "Be brief."),
            (Role::User, "Q1"),
            (Role::Assistant, " A1 "),
            (Role::User, "not a user: line\n user:"),
        ]
    );
}

#[test]
fn a_body_without_sense_is_refused() {
    assert_eq!(error(""), "the prompt has no text");
    assert_eq!(error(" \n\n"), "the prompt has no text");
    assert_eq!(error("---\nmodel: m\n---\n"), "the prompt has no text");
    assert_eq!(error("system:\nx"), "the prompt has no `user:` message");
    assert_eq!(
        error("user:\nx\nsystem:\n \n"),
        "line 3 of the prompt: this `system:` message is empty"
    );
    let before = error("---\nname: n\n---\n\nHello\nuser:\nx");
    assert!(before.starts_with("line 5 of the prompt: there is text before"), "{before}");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing_but_the_source() {
    let text =
        "\u{feff}---\r\nmax_tokens: 5\r\n---\r\nsystem:\r\na\r\nb\r\n\r\nuser: \r\n{{ x }}\r\n";
    let windows = spec(text);
    let unix = spec(&text.trim_start_matches('\u{feff}').replace('\r', ""));
    assert_eq!(windows.source, text);
    assert_eq!(windows.messages, unix.messages);
    assert_eq!(windows.max_tokens, Some(5));
}

#[test]
fn front_matter_may_be_empty_or_follow_blank_lines() {
    for text in ["---\n---\nx", "---\n# note\n\n---\nx", "\n \n---\nname:\n---  \nx"] {
        assert_eq!(texts(&spec(text)), [(Role::User, "x")], "{text:?}");
    }
    assert_eq!(texts(&spec("a\n---\nb")), [(Role::User, "a\n---\nb")]);
    assert_eq!(texts(&spec("---\nname: n\n---\na\n---\nb")), [(Role::User, "a\n---\nb")]);
    let unclosed = error("\n---\nmodel: m\nx");
    assert_eq!(
        unclosed,
        "line 2 of the prompt: the front matter that starts here has no closing `---`"
    );
}

#[test]
fn unknown_keys_are_told_with_the_keys_there_are() {
    let error = front_error("name: n\nmax_token: 5");
    assert!(
        error.starts_with(
            "line 3 of the prompt: there is no key `max_token` (did you mean `max_tokens`?); \
             the keys are name, model, "
        ),
        "{error}"
    );
    assert!(front_error("banana: 5").contains("there is no key `banana`; the keys are"));
}

#[test]
fn yaml_that_cannot_be_read_is_told_by_its_line_in_the_file() {
    for (lines, line) in [
        ("name: n\nchoices: [a", 3),
        ("name: a\nname: b", 3),
        ("- a\n- b", 2),
        ("just text", 2),
        ("name: n\nchoices: yes or no", 3),
        ("choices: {a: b}", 2),
        ("choices: [a, [b]]", 2),
        ("parameters: 3", 2),
        ("\nparameters: [a]", 3),
        ("temperature: .inf", 2),
        ("name: !include x", 2),
    ] {
        let error = front_error(lines);
        assert!(error.starts_with("the front matter cannot be read: "), "{lines}: {error}");
        assert!(error.contains(&format!("line {line}")), "{lines}: {error}");
    }
    assert!(front_error("choices: yes or no").contains("a list of labels"));
}

#[test]
fn labels_are_the_text_that_was_written() {
    let labels = |lines: &str| match front_spec(lines).answer {
        AnswerFormat::Choices(labels) => labels,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        labels("choices: [yes, no, on, Off, true, False, y, 1, 2.50, 0x10, 010, 1e3, 2024-01-01]"),
        [
            "yes",
            "no",
            "on",
            "Off",
            "true",
            "False",
            "y",
            "1",
            "2.50",
            "0x10",
            "010",
            "1e3",
            "2024-01-01"
        ]
    );
    assert_eq!(labels("choices:\n- 'null'\n- \"~\"\n- très bien"), ["null", "~", "très bien"]);
}

#[test]
fn choices_that_leave_no_choice_are_refused() {
    for (lines, told) in [
        ("choices: []", "line 2 of the prompt: `choices` must have at least two labels"),
        ("choices: [a]", "line 2 of the prompt: `choices` must have at least two labels"),
        ("choices:\n- a\n- b\n- a", "line 5 of the prompt: the label `a` is there twice"),
        ("choices:\n- a\n- ' '", "line 4 of the prompt: label 2 of `choices` is empty"),
        ("choices: [a, null]", "line 2 of the prompt: label 2 of `choices` is empty"),
        (
            "choices: [a, b]\nschema: {type: object}",
            "line 3 of the prompt: a prompt has `choices` or a `schema`",
        ),
    ] {
        let error = front_error(lines);
        assert!(error.starts_with(told), "{lines}: {error}");
    }
}

#[test]
fn values_of_the_wrong_kind_are_refused_by_line() {
    for (line, told) in [
        ("max_tokens: 0", "`max_tokens` must be a whole number above 0"),
        ("max_tokens: -1", "`max_tokens` must be a whole number above 0"),
        ("max_tokens: 1.5", "`max_tokens` must be a whole number above 0"),
        ("max_tokens: many", "`max_tokens` must be a whole number above 0"),
        ("max_tokens: 5000000000", "`max_tokens` must be a whole number above 0"),
        ("max_tokens_limit: 9", "`max_tokens_limit` needs `max_tokens`"),
        ("temperature: hot", "`temperature` must be a number"),
        ("model: two words", "`model` must be a model's name"),
        ("model: 4", "`model` must be a model's name"),
        ("endpoint: embeddings", "`endpoint` must be `chat/completions` or `responses`"),
        ("structured_outputs: yes", "`structured_outputs` must be true or false"),
        ("name: [a]", "`name` must be one line of text"),
        ("schema: 3", "`schema` must be a JSON Schema"),
    ] {
        let error = front_error(&format!("# a note\n{line}"));
        assert!(error.starts_with(&format!("line 3 of the prompt: {told}")), "{line}: {error}");
    }
    let error = front_error("max_tokens: 9\nmax_tokens_limit: 8");
    assert_eq!(error, "line 3 of the prompt: `max_tokens_limit` (8) is below `max_tokens` (9)");
}

#[test]
fn a_key_without_a_value_counts_as_absent() {
    let spec = front_spec("max_tokens:\nchoices: ~\nschema: null\nparameters:\ntemperature:");
    assert_eq!(spec.max_tokens, None);
    assert_eq!(spec.answer, AnswerFormat::Text);
    assert!(spec.parameters.is_empty());
}

#[test]
fn the_limit_is_four_times_the_start_unless_given() {
    assert_eq!(front_spec("max_tokens: 100").max_tokens_limit, Some(400));
    assert_eq!(front_spec("max_tokens: 4000000000").max_tokens_limit, Some(u32::MAX));
    assert_eq!(front_spec("max_tokens: 9\nmax_tokens_limit: 9").max_tokens_limit, Some(9));
}

#[test]
fn a_token_limit_among_the_parameters_keeps_its_name() {
    let spec = front_spec("parameters: {max_tokens: 7, seed: 1}");
    assert_eq!((spec.max_tokens, spec.max_tokens_limit), (Some(7), Some(28)));
    assert_eq!(spec.token_limit_field, TokenLimitField::MaxTokens);
    assert_eq!(Value::from(spec.parameters), json!({"seed": 1}));
    let spec = front_spec("endpoint: responses\nparameters: {max_output_tokens: 16}");
    assert_eq!(spec.token_limit_field, TokenLimitField::MaxOutputTokens);
    for (lines, told) in [
        (
            "max_tokens: 5\nparameters:\n  max_tokens: 6",
            "line 4 of the prompt: `max_tokens` and `parameters.max_tokens` set the same",
        ),
        (
            "parameters:\n  max_tokens: 6\n  max_completion_tokens: 6",
            "line 4 of the prompt: `max_tokens` and `parameters.max_completion_tokens`",
        ),
        (
            "parameters:\n  max_output_tokens: 6",
            "line 3 of the prompt: the endpoint `chat/completions` has no parameter",
        ),
        ("parameters:\n  max_tokens: x", "line 3 of the prompt: `max_tokens` must be"),
        (
            "endpoint: responses\nmax_tokens: 15",
            "line 3 of the prompt: `max_tokens` must be at least 16",
        ),
        (
            "endpoint: responses\nparameters:\n  max_tokens: 20",
            "line 4 of the prompt: the endpoint `responses` has no",
        ),
    ] {
        let error = front_error(lines);
        assert!(error.starts_with(told), "{lines}: {error}");
    }
}

#[test]
fn parameters_that_are_ours_are_refused_with_the_reason() {
    for (lines, key) in [
        ("parameters: {model: m}", "model"),
        ("parameters: {messages: []}", "messages"),
        ("parameters: {input: x}", "input"),
        ("parameters: {stream: true}", "stream"),
        ("parameters: {n: 2}", "n"),
        ("parameters: {background: true}", "background"),
        ("choices: [a, b]\nparameters: {response_format: {type: json_object}}", "response_format"),
        ("endpoint: responses\nchoices: [a, b]\nparameters: {text: {format: {}}}", "text"),
    ] {
        let error = front_error(lines);
        assert!(error.contains(&format!("`parameters` cannot set `{key}`: ")), "{lines}: {error}");
    }
    for lines in
        ["parameters: {seed: 1}", "parameters: {stop: x}", "parameters: {response_format: {}}"]
    {
        let error = front_error(&format!("endpoint: responses\n{lines}"));
        assert!(error.contains("the endpoint `responses` has no parameter"), "{error}");
    }
    let error = front_error("temperature: 1\nparameters:\n  top_p: 1\n  temperature: 1");
    assert!(error.starts_with("line 5 of the prompt: `temperature` and"), "{error}");
    let sent = "choices: [a, b]\nstructured_outputs: false\nparameters: {n: 1, response_format: {type: json_object}}";
    assert_eq!(front_spec(sent).parameters.len(), 2);
}

#[test]
fn a_schema_is_written_or_named_and_must_be_valid() {
    let spec = front_spec(
        "schema:\n  type: object\n  properties:\n    z: {enum: [yes, no, 1]}\n    a: {}",
    );
    let AnswerFormat::Schema(schema) = spec.answer else { panic!("no schema") };
    assert_eq!(
        schema.to_string(),
        r#"{"type":"object","properties":{"z":{"enum":["yes","no",1]},"a":{}}}"#
    );
    assert_eq!(
        front_spec("schema: good.json").answer,
        AnswerFormat::Schema(json!({"type": "object"}))
    );
    for (lines, told) in [
        ("schema: gone.json", "the schema in `gone.json` cannot be used: no such file"),
        ("schema: bad.json", "the schema in `bad.json` cannot be used: it is not JSON"),
        ("schema: {type: array}", "the schema must have `type: object` at its top"),
        ("schema: {type: object, required: 3}", "the schema is not valid at /required"),
        ("schema: {type: object, $ref: 'http://example.com/x'}", "the schema is not valid"),
    ] {
        let error = front_error(lines);
        assert!(error.starts_with(&format!("line 2 of the prompt: {told}")), "{lines}: {error}");
    }
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(
            text in "(---|\r?\n|choices|parameters|schema|max_tokens|: |- |[\\[\\]{}&*!|>'\"#a1é]|user:|\\{\\{){0,60}",
        ) {
            let _ = parse_with(&text, &defaults());
            let _ = front(&text);
        }

        #[test]
        fn a_body_without_roles_is_kept_line_by_line(body in "[^-\\s:\r\u{feff}][^:\r]*[^\\s:\r]") {
            let spec = spec(&body);
            prop_assert_eq!(texts(&spec), [(Role::User, body.as_str())]);
        }
    }
}
