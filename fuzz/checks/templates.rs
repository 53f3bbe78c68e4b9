//! Templates: one message's template, and behind `===` the cells of a row.
//!
//! Whatever a template says, it opens no file, ends, and writes no more than the limit; it comes to the same bytes
//! a second time; and no error of it holds what stands in a cell.

use std::error::Error;

use overnight::domain::{
    AnswerFormat, Endpoint, Message, MessageTemplate, ModelName, PromptSpec, Role, Structured,
    TokenLimitField,
};
use overnight::machine::render::{RenderError, Template, is_blank};
use serde_json::Map;

const CELLS: &str = r#"{"text":"Zq7 secret Zq7","n":3,"price":"1.50","big":123456789012345678901234567890,"none":null,"yes":true,
"list":[1,"two",null,{"k":[]}],"map":{"b":1,"a":{"c":"Zq7"}},"two words":"Zq7 end","row":"own"}"#;

/// What stands in the cells above and in no message of ours.
const CANARY: &str = "Zq7";

/// The longest that a message may become.
const MOST_BYTES: usize = 64 << 20;

/// Checks a template.
pub fn check(data: &[u8]) {
    let (template, cells) = super::halves(data);
    let (Ok(template), Ok(cells)) = (std::str::from_utf8(template), std::str::from_utf8(cells))
    else {
        return;
    };
    let spec = spec(template);
    let first = rendered(&spec, if cells.is_empty() { CELLS } else { cells });
    let again = rendered(&spec, if cells.is_empty() { CELLS } else { cells });
    match (&first, &again) {
        (Ok(first), Ok(again)) => assert!(first == again, "it comes to other bytes a second time"),
        (Err(first), Err(again)) => assert_eq!(first, again),
        _ => panic!("it fails only sometimes: {:?} {:?}", first.is_ok(), again.is_ok()),
    }
    if let Ok(messages) = &first {
        assert!(messages.iter().all(|message| message.text.len() <= MOST_BYTES));
        let _ = is_blank(messages);
    }
    if let Err(error) = &first {
        assert!(error.len() <= 64 * 1024 + template.len() * 4, "{} bytes", error.len());
        let mute = template.to_ascii_lowercase().contains(&CANARY.to_ascii_lowercase());
        assert!(mute || !cells.is_empty() || !error.contains(CANARY), "{error}");
    }
}

/// Returns the messages, or the error with all its causes.
fn rendered(spec: &PromptSpec, cells: &str) -> Result<Vec<Message>, String> {
    let template = Template::compile(spec).map_err(|error| chain(&error))?;
    assert!(template.required_columns().all(|name| template.columns().contains(name)));
    let _ = template.check_columns(&["text".to_owned(), "n".to_owned()]).map_err(|e| e.to_string());
    template.render(cells).map_err(|error: RenderError| chain(&error))
}

fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = words + "\n" + &error.to_string();
        cause = error.source();
    }
    words
}

/// Returns a prompt of one message.
fn spec(template: &str) -> PromptSpec {
    PromptSpec {
        source: template.to_owned(),
        messages: vec![MessageTemplate { role: Role::User, template: template.to_owned() }],
        model: ModelName { provider: "simulated".to_owned(), model: "small".to_owned() },
        endpoint: Endpoint::ChatCompletions,
        max_tokens: None,
        max_tokens_limit: None,
        token_limit_field: TokenLimitField::MaxCompletionTokens,
        answer: AnswerFormat::Text,
        structured: Structured::Schema,
        parameters: Map::new(),
    }
}
