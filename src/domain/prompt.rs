//! A prompt: the recipe that turns a row into a request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One version of a prompt, as its file or the command line gave it. Immutable once on record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptSpec {
    /// The text of the prompt file, front matter included, exactly as it was given.
    pub source: String,
    /// The messages' templates, at least one.
    pub messages: Vec<MessageTemplate>,
    /// Which model is asked.
    pub model: ModelName,
    /// Which of the provider's endpoints is called.
    pub endpoint: Endpoint,
    /// The most tokens a reply may have; `None` leaves it to the provider.
    pub max_tokens: Option<u32>,
    /// How far `max_tokens` may be raised after a cut reply.
    pub max_tokens_limit: Option<u32>,
    /// Under which name `max_tokens` is sent.
    pub token_limit_field: TokenLimitField,
    /// What an answer must look like.
    pub answer: AnswerFormat,
    /// How that is asked for.
    pub structured: Structured,
    /// Further parameters, sent as they are (`temperature`, `reasoning_effort`, …), in this order.
    pub parameters: Map<String, Value>,
}

/// One message of a prompt, before a row is put into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageTemplate {
    /// Who speaks.
    pub role: Role,
    /// Jinja text.
    pub template: String,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model; used for worked examples.
    Assistant,
}

impl Role {
    /// Returns the role's word on the wire and in prompt files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A model and who serves it, written `provider/model`; a bare name is OpenAI's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelName {
    /// `openai`, `simulated`, ….
    pub provider: String,
    /// The provider's own name for it; may hold further slashes.
    pub model: String,
}

impl ModelName {
    /// Reads `provider/model` or a bare model name.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (provider, model) = text.split_once('/').unwrap_or(("openai", text));
        let clean = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        (clean(provider) && clean(model))
            .then(|| Self { provider: provider.to_owned(), model: model.to_owned() })
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// The provider's endpoint that a prompt calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// `/chat/completions`, which every compatible server has.
    #[serde(rename = "chat/completions")]
    ChatCompletions,
    /// `/responses`.
    #[serde(rename = "responses")]
    Responses,
}

impl Endpoint {
    /// Returns the path below the base URL, without a leading slash; also its word in prompt files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Responses => "responses",
        }
    }

    /// Returns the endpoint that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::ChatCompletions, Self::Responses].into_iter().find(|known| known.as_str() == word)
    }
}

/// The body's field that carries `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    /// Chat completions of OpenAI's own newer models.
    MaxCompletionTokens,
    /// Chat completions everywhere else.
    MaxTokens,
    /// Responses.
    MaxOutputTokens,
}

impl TokenLimitField {
    /// Returns the field's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
        }
    }
}

/// What an answer must look like to be accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// Any text.
    Text,
    /// Exactly one of these labels.
    Choices(Vec<String>),
    /// JSON that is valid under this JSON Schema.
    Schema(Value),
}

/// How a schema or choices are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Structured {
    /// As the body's `response_format` (`text.format` in responses).
    Schema,
    /// In words, for servers without structured outputs.
    Words,
}

#[cfg(test)]
mod tests {
    use super::ModelName;

    #[test]
    fn a_bare_model_is_openais() {
        let parse = |text| ModelName::parse(text).map(|model| (model.provider, model.model));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(parse("gpt-5-mini"), pair("openai", "gpt-5-mini"));
        assert_eq!(parse("groq/openai/gpt-oss-20b"), pair("groq", "openai/gpt-oss-20b"));
        assert_eq!(parse(" simulated/small "), pair("simulated", "small"));
        assert_eq!(parse("openai/"), None);
        assert_eq!(parse("two words"), None);
        assert_eq!(parse(""), None);
    }
}
