//! Prompt files.
//!
//! One that is accepted reads the same a second time, comes back from the record as it went in, compiles or says
//! on which line it does not, and makes a body that is JSON.

use overnight::domain::{AnswerFormat, Message, PromptSpec, Role, Structured};
use overnight::input::prompt_file::{self, BaseUrl, ParsedPrompt, PromptDefaults, PromptError};
use overnight::machine::answer_check::{AnswerCheck, strict_ready, wire_schema, words};
use overnight::machine::render::Template;
use overnight::provider::{Encoder, WireAnswer, check_parameters};
use serde_json::Value;

/// Checks a prompt file; what stands behind `===` is the schema's own file.
pub fn check(data: &[u8]) {
    let (prompt, schema) = super::halves(data);
    let (Ok(text), Ok(schema)) = (std::str::from_utf8(prompt), std::str::from_utf8(schema)) else {
        return;
    };
    let first = read(text, schema);
    let prompt = match first {
        Ok(prompt) => prompt,
        Err(error) => {
            assert!(error.to_string().len() <= 4 * data.len() + 4096, "{error:.300}");
            return;
        }
    };
    let spec = &prompt.spec;
    assert_eq!(spec.source, text);
    assert_eq!(read(&spec.source, schema).as_ref(), Ok(&prompt));
    let stored = serde_json::to_string(spec).unwrap();
    assert_eq!(&serde_json::from_str::<PromptSpec>(&stored).unwrap(), spec, "{stored}");
    check_spec(spec);
}

fn read(text: &str, schema: &str) -> Result<ParsedPrompt, PromptError> {
    let defaults = PromptDefaults {
        model: None,
        max_tokens: None,
        base_url: BaseUrl::Own,
        structured: Structured::Schema,
    };
    let load = &mut |path: &str| match schema {
        "" => Err(format!("{path} is not there")),
        schema => Ok(schema.to_owned()),
    };
    prompt_file::parse(text, &defaults, load)
}

fn check_spec(spec: &PromptSpec) {
    assert!(spec.messages.iter().any(|message| message.role == Role::User));
    if let (Some(tokens), Some(limit)) = (spec.max_tokens, spec.max_tokens_limit) {
        assert!((1..=limit).contains(&tokens));
    }
    let _ = check_parameters(spec);
    let _ = Template::compile(spec);
    AnswerCheck::compile(&spec.answer).unwrap();
    let asked = |schema: Value| WireAnswer::Schema { strict: strict_ready(&schema), schema };
    let by_schema = wire_schema(&spec.answer).map_or(WireAnswer::Free, asked);
    let by_words = words(&spec.answer).map_or(WireAnswer::Free, WireAnswer::Words);
    assert_eq!(spec.answer == AnswerFormat::Text, wire_schema(&spec.answer).is_none());
    let message = |role| Message { role, text: "\"\u{1}\u{2028}".to_owned() };
    for answer in [by_schema, by_words] {
        let encoder = Encoder::new(spec, answer);
        for messages in [vec![message(Role::User)], vec![message(Role::System)], Vec::new()] {
            let body = encoder.body(&messages, spec.max_tokens);
            assert_eq!(body, encoder.body(&messages, spec.max_tokens));
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["model"], spec.model.model.as_str());
        }
    }
}
