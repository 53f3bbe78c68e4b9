//! Reads a prompt: optional YAML front matter, then messages in Jinja.
//!
//! ```text
//! ---
//! model: gpt-5-mini
//! choices: [positive, negative]
//! ---
//! system:
//! You label product reviews.
//!
//! user:
//! {{ text }}
//! ```
//!
//! Everything that could fail every row of a run is refused here, with the line it stands on:
//! an unknown key, a parameter that is ours to set, a schema that is not valid. The templates
//! themselves are compiled by [`crate::machine::render`]. This module opens no file; a schema in
//! a file of its own is fetched by the caller.

mod body;
mod error;
mod front_matter;
mod parameters;
mod price;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::error::Attempt;
pub use self::error::{Problem, PromptError};
use self::front_matter::{At, FrontMatter, Label};
use self::parameters::Limit;
pub use self::parameters::token_limit_field;
pub use self::price::{Unpriced, WrittenPrice, take_price};
use crate::domain::{AnswerFormat, Endpoint, ModelName, PromptSpec, Structured};
use crate::machine::answer_check::{AnswerCheck, SchemaError};

/// What the command line says about a prompt beside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptDefaults {
    /// The model to ask, whatever the prompt says.
    pub model: Option<ModelName>,
    /// The most tokens a reply may have, whatever the prompt says.
    pub max_tokens: Option<u32>,
    /// Where the provider `openai` is.
    pub base_url: BaseUrl,
    /// How a form is asked for, unless the prompt says.
    pub structured: Structured,
}

/// Whose server the provider `openai` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseUrl {
    /// The provider's own.
    Own,
    /// A compatible server.
    Custom,
}

/// A prompt as its text gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedPrompt {
    /// The name that it gives itself.
    pub name: Option<String>,
    /// The recipe.
    pub spec: PromptSpec,
}

/// How often `max_tokens` may be had again after cut replies, unless the prompt sets a limit.
const LIMIT_FACTOR: u32 = 4;

/// Reads a prompt.
///
/// `load_schema` is given the text of `schema:` if it names a file, and returns that file's text
/// or what is wrong with it.
pub fn parse(
    text: &str,
    defaults: &PromptDefaults,
    load_schema: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<ParsedPrompt, PromptError> {
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (front, body) = front_matter::split(&plain)?;
    let front = FrontMatter::read(&front)?;
    let messages = body::messages(&body)?;

    let name = front.name.as_ref().map(name).transpose()?;
    let model = model(front.model.as_ref(), defaults)?;
    let endpoint = endpoint(front.endpoint.as_ref())?;
    let structured = structured(front.structured_outputs.as_ref())?.unwrap_or(defaults.structured);
    let answer = answer(&front, load_schema)?;
    let (parameters, limit) =
        parameters::read(&front, endpoint, asks_by_schema(&answer, structured))?;
    let limit = match defaults.max_tokens {
        Some(tokens) => Limit { value: Some(tokens), line: None, ..limit },
        None => limit,
    };
    parameters::check_minimum(endpoint, &limit)?;
    let max_tokens_limit = max_tokens_limit(front.max_tokens_limit.as_ref(), limit.value)?;
    let field = token_limit_field(&model, endpoint, defaults.base_url);
    let spec = PromptSpec {
        source: text.to_owned(),
        messages,
        model,
        endpoint,
        max_tokens: limit.value,
        max_tokens_limit,
        token_limit_field: limit.field.unwrap_or(field),
        answer,
        structured,
        parameters,
    };
    Ok(ParsedPrompt { name, spec })
}

fn name(name: &At<Value>) -> Attempt<String> {
    let text = name.value.as_str().map(str::trim).unwrap_or_default();
    if text.is_empty() || text.contains('\n') {
        return Err(Problem::must("name", "be one line of text").on(name.line));
    }
    Ok(text.to_owned())
}

fn model(written: Option<&At<Value>>, defaults: &PromptDefaults) -> Attempt<ModelName> {
    let read = |written: &At<Value>| {
        let name = written.value.as_str().and_then(ModelName::parse);
        let must = "be a model's name, such as `gpt-5-mini` or `provider/model`";
        name.ok_or_else(|| Problem::must("model", must).on(written.line))
    };
    let written = written.map(read).transpose()?;
    defaults.model.clone().or(written).ok_or_else(|| Problem::NoModel.anywhere())
}

fn endpoint(written: Option<&At<Value>>) -> Attempt<Endpoint> {
    let Some(written) = written else { return Ok(Endpoint::ChatCompletions) };
    [Endpoint::ChatCompletions, Endpoint::Responses]
        .into_iter()
        .find(|endpoint| written.value.as_str() == Some(endpoint.as_str()))
        .ok_or_else(|| {
            Problem::must("endpoint", "be `chat/completions` or `responses`").on(written.line)
        })
}

fn structured(written: Option<&At<Value>>) -> Attempt<Option<Structured>> {
    match written.map(|written| (written.value.as_bool(), written.line)) {
        None => Ok(None),
        Some((Some(true), _)) => Ok(Some(Structured::Schema)),
        Some((Some(false), _)) => Ok(Some(Structured::Words)),
        Some((None, line)) => Err(Problem::must("structured_outputs", "be true or false").on(line)),
    }
}

fn asks_by_schema(answer: &AnswerFormat, structured: Structured) -> bool {
    match (answer, structured) {
        (AnswerFormat::Choices(_) | AnswerFormat::Schema(_), Structured::Schema) => true,
        (AnswerFormat::Text, _) | (_, Structured::Words) => false,
    }
}

fn answer(
    front: &FrontMatter,
    load_schema: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Attempt<AnswerFormat> {
    match (&front.choices, &front.schema) {
        (Some(choices), Some(schema)) => {
            Err(Problem::ChoicesAndSchema.on(choices.line.max(schema.line)))
        }
        (Some(labels), None) => choices(labels),
        (None, Some(written)) => schema(written, load_schema),
        (None, None) => Ok(AnswerFormat::Text),
    }
}

fn choices(written: &At<Vec<Label>>) -> Attempt<AnswerFormat> {
    let mut labels: Vec<String> = Vec::new();
    for (index, label) in written.value.iter().enumerate() {
        let text = label.value.as_deref().unwrap_or_default();
        if text.trim().is_empty() {
            return Err(Problem::BlankChoice { position: index + 1 }.on(label.line));
        }
        if labels.iter().any(|other| other == text) {
            return Err(Problem::DoubledChoice { label: text.to_owned() }.on(label.line));
        }
        labels.push(text.to_owned());
    }
    if labels.len() < 2 {
        return Err(Problem::TooFewChoices.on(written.line));
    }
    Ok(AnswerFormat::Choices(labels))
}

fn schema(
    written: &At<Value>,
    load_schema: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Attempt<AnswerFormat> {
    let schema = match &written.value {
        Value::Object(_) => written.value.clone(),
        Value::String(path) => {
            let bad_file = |what| Problem::SchemaFile { path: path.clone(), what }.on(written.line);
            let text = load_schema(path).map_err(bad_file)?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            serde_json::from_str(text)
                .map_err(|error| bad_file(format!("it is not JSON: {error}")))?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            let must = "be a JSON Schema, or the name of a JSON file that holds one";
            return Err(Problem::must("schema", must).on(written.line));
        }
    };
    let format = AnswerFormat::Schema(schema);
    let checked: Result<AnswerCheck, SchemaError> = AnswerCheck::compile(&format);
    checked.map_err(|error| Problem::Schema(error).on(written.line))?;
    Ok(format)
}

fn max_tokens_limit(written: Option<&At<Value>>, max_tokens: Option<u32>) -> Attempt<Option<u32>> {
    let Some(written) = written else {
        return Ok(max_tokens.map(|tokens| tokens.saturating_mul(LIMIT_FACTOR)));
    };
    let limit = parameters::tokens("max_tokens_limit", written)?;
    match max_tokens {
        None => Err(Problem::LimitOfNothing.on(written.line)),
        Some(max_tokens) if limit < max_tokens => {
            Err(Problem::LimitBelow { limit, max_tokens }.on(written.line))
        }
        Some(_) => Ok(Some(limit)),
    }
}
