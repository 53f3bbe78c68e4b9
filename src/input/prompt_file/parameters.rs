//! Which body parameters a prompt may set, and under which name the token limit is sent.

use serde_json::{Map, Value};

use super::BaseUrl;
use super::error::{Attempt, Problem, PromptError};
use super::front_matter::{At, FrontMatter};
use crate::domain::{Endpoint, ModelName, TokenLimitField};

/// The token limit that a prompt sets.
#[derive(Default)]
pub(super) struct Limit {
    pub(super) value: Option<u32>,
    /// The name under which to send it, if the prompt says so.
    pub(super) field: Option<TokenLimitField>,
    /// Where it stands.
    pub(super) line: Option<u64>,
}

/// The fewest tokens that `responses` takes (OpenAI's specification 2.3.0, `max_output_tokens`).
const RESPONSES_MINIMUM: u32 = 16;

/// Takes a prompt's parameters apart: what is sent as it is, and the token limit.
pub(super) fn read(
    front: &FrontMatter,
    endpoint: Endpoint,
    asks_by_schema: bool,
) -> Attempt<(Map<String, Value>, Limit)> {
    let mut limit = Limit::default();
    if let Some(written) = &front.max_tokens {
        limit.value = Some(tokens("max_tokens", written)?);
        limit.line = Some(written.line);
    }
    let mut sent = Map::new();
    if let Some(written) = &front.temperature {
        if !written.value.is_number() {
            return Err(Problem::must("temperature", "be a number").on(written.line));
        }
        sent.insert("temperature".to_owned(), written.value.clone());
    }
    for (At { line, value: key }, value) in front.parameters.iter().flatten() {
        if let Some(field) = limit_field(key) {
            if !has_field(endpoint, field) {
                return Err(Problem::ForeignParameter { key: key.clone(), endpoint }.on(*line));
            }
            take_limit(&mut limit, field, &At { line: *line, value: value.clone() })?;
        } else if sent.contains_key(key) {
            return Err(twice("temperature", "parameters.temperature").on(*line));
        } else {
            check(key, value, (endpoint, asks_by_schema)).map_err(|problem| problem.on(*line))?;
            sent.insert(key.clone(), value.clone());
        }
    }
    Ok((sent, limit))
}

/// Reads a number of tokens.
pub(super) fn tokens(key: &'static str, written: &At<Value>) -> Attempt<u32> {
    written
        .value
        .as_u64()
        .and_then(|tokens| u32::try_from(tokens).ok())
        .filter(|tokens| *tokens > 0)
        .ok_or_else(|| Problem::must(key, "be a whole number above 0").on(written.line))
}

/// Refuses a token limit that the endpoint does not take.
pub(super) fn check_minimum(endpoint: Endpoint, limit: &Limit) -> Attempt<()> {
    let minimum = match endpoint {
        Endpoint::ChatCompletions => 1,
        Endpoint::Responses => RESPONSES_MINIMUM,
    };
    if limit.value.is_some_and(|tokens| tokens < minimum) {
        return Err(PromptError {
            line: limit.line,
            problem: Problem::TooFewTokens { minimum, endpoint },
        });
    }
    Ok(())
}

fn take_limit(limit: &mut Limit, field: TokenLimitField, written: &At<Value>) -> Attempt<()> {
    if limit.value.is_some() {
        let first = limit.field.map_or("max_tokens", TokenLimitField::as_str);
        return Err(twice(first, &format!("parameters.{}", field.as_str())).on(written.line));
    }
    limit.value = Some(tokens(field.as_str(), written)?);
    limit.field = Some(field);
    limit.line = Some(written.line);
    Ok(())
}

fn twice(first: &str, second: &str) -> Problem {
    Problem::SetTwice { first: first.to_owned(), second: second.to_owned() }
}

fn limit_field(key: &str) -> Option<TokenLimitField> {
    [
        TokenLimitField::MaxCompletionTokens,
        TokenLimitField::MaxTokens,
        TokenLimitField::MaxOutputTokens,
    ]
    .into_iter()
    .find(|field| field.as_str() == key)
}

fn has_field(endpoint: Endpoint, field: TokenLimitField) -> bool {
    match (endpoint, field) {
        (
            Endpoint::ChatCompletions,
            TokenLimitField::MaxTokens | TokenLimitField::MaxCompletionTokens,
        )
        | (Endpoint::Responses, TokenLimitField::MaxOutputTokens) => true,
        (Endpoint::ChatCompletions, TokenLimitField::MaxOutputTokens)
        | (
            Endpoint::Responses,
            TokenLimitField::MaxTokens | TokenLimitField::MaxCompletionTokens,
        ) => false,
    }
}

/// Refuses a parameter that is ours to set, or that the endpoint does not have.
fn check(
    key: &str,
    value: &Value,
    (endpoint, asks_by_schema): (Endpoint, bool),
) -> Result<(), Problem> {
    let own = |why| Err(Problem::OwnParameter { key: key.to_owned(), why });
    let responses = endpoint == Endpoint::Responses;
    match key {
        "model" => own("write it as `model:` beside `parameters:`"),
        "messages" | "input" => own("the messages are the body of the prompt"),
        "stream" => own("a reply is recorded whole, so it is never streamed"),
        "background" if value != &Value::Bool(false) => own("each call is waited for"),
        "n" if value.as_u64() != Some(1) => own("each row gets one answer a request"),
        // No such parameters in `responses` (OpenAI's specification 2.3.0).
        "seed" | "stop" | "response_format" if responses => {
            Err(Problem::ForeignParameter { key: key.to_owned(), endpoint })
        }
        "response_format" if asks_by_schema => own("`choices` and `schema` set it"),
        "text" if responses && asks_by_schema && value.get("format").is_some() => {
            own("`choices` and `schema` set its `format`")
        }
        _ => Ok(()),
    }
}

/// Returns the name under which a token limit is sent, unless the prompt chooses one itself.
///
/// `responses` has one name. In chat completions OpenAI deprecates `max_tokens`, and its newer
/// models refuse it; most compatible servers know nothing else.
pub fn token_limit_field(
    model: &ModelName,
    endpoint: Endpoint,
    base_url: BaseUrl,
) -> TokenLimitField {
    match (endpoint, model.provider.as_str(), base_url) {
        (Endpoint::Responses, _, _) => TokenLimitField::MaxOutputTokens,
        (Endpoint::ChatCompletions, "simulated", _)
        | (Endpoint::ChatCompletions, "openai", BaseUrl::Own) => {
            TokenLimitField::MaxCompletionTokens
        }
        (Endpoint::ChatCompletions, _, _) if is_newer_openai(&model.model) => {
            TokenLimitField::MaxCompletionTokens
        }
        (Endpoint::ChatCompletions, _, _) => TokenLimitField::MaxTokens,
    }
}

/// Says whether a model is of OpenAI's families since o1 and gpt-4o, by its name.
fn is_newer_openai(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let name = name.strip_prefix("ft:").unwrap_or(&name);
    if name.starts_with("chatgpt-") {
        return true;
    }
    let leading = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(rest) = name.strip_prefix('o') {
        let digits = leading(rest);
        return digits > 0 && !rest[digits..].starts_with(|c: char| c.is_ascii_alphanumeric());
    }
    let Some(version) = name.strip_prefix("gpt-") else { return false };
    let digits = leading(version);
    let rest = &version[digits..];
    match version[..digits].parse::<u32>() {
        Ok(4) => rest.starts_with('o') || rest.starts_with(".1") || rest.starts_with(".5"),
        // Azure's name of gpt-3.5 has no point.
        Ok(35) | Err(_) => false,
        Ok(major) => major >= 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_token_limit_follows_server_and_model() {
        use BaseUrl::{Custom, Own};
        use TokenLimitField::{MaxCompletionTokens, MaxTokens};
        for (model, base_url, field) in [
            ("gpt-5-mini", Own, MaxCompletionTokens),
            ("gpt-3.5-turbo", Own, MaxCompletionTokens),
            ("simulated/small", Own, MaxCompletionTokens),
            ("simulated/small", Custom, MaxCompletionTokens),
            ("openai/llama-3-8b", Custom, MaxTokens),
            ("openai/gpt-4o-mini", Custom, MaxCompletionTokens),
            ("openrouter/openai/gpt-5.4-nano", Own, MaxCompletionTokens),
            ("azure/gpt-4.1", Own, MaxCompletionTokens),
            ("azure/gpt-4.5-preview", Own, MaxCompletionTokens),
            ("azure/gpt-6-sol", Own, MaxCompletionTokens),
            ("azure/gpt-10", Own, MaxCompletionTokens),
            ("azure/GPT-4o", Own, MaxCompletionTokens),
            ("azure/ft:gpt-4o-mini:org", Own, MaxCompletionTokens),
            ("azure/chatgpt-4o-latest", Own, MaxCompletionTokens),
            ("azure/o1", Own, MaxCompletionTokens),
            ("azure/o3-mini", Own, MaxCompletionTokens),
            ("azure/o4-mini-2025-04-16", Own, MaxCompletionTokens),
            ("groq/openai/gpt-oss-120b", Own, MaxTokens),
            ("azure/gpt-4", Own, MaxTokens),
            ("azure/gpt-4-turbo", Own, MaxTokens),
            ("azure/gpt-35-turbo", Own, MaxTokens),
            ("x/olmo-2", Own, MaxTokens),
            ("x/o1labs", Own, MaxTokens),
            ("x/gpt-j-6b", Own, MaxTokens),
            ("deepseek/deepseek-chat", Own, MaxTokens),
        ] {
            let name = ModelName::parse(model).unwrap();
            let chat = token_limit_field(&name, Endpoint::ChatCompletions, base_url);
            assert_eq!(chat, field, "{model}");
            let responses = token_limit_field(&name, Endpoint::Responses, base_url);
            assert_eq!(responses, TokenLimitField::MaxOutputTokens, "{model}");
        }
    }
}
