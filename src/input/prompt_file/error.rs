//! What can be wrong with a prompt's text.

use std::fmt;

use crate::domain::{Endpoint, Role};
use crate::machine::answer_check::SchemaError;

pub(super) type Attempt<T> = Result<T, PromptError>;

/// What is wrong with a prompt's text, and on which of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptError {
    /// The line, counted from 1, if it is one.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} of the prompt: {}", self.problem),
            None => fmt::Display::fmt(&self.problem, f),
        }
    }
}

impl std::error::Error for PromptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// What is wrong with a prompt's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The opening `---` has no partner.
    #[error("the front matter that starts here has no closing `---`")]
    UnclosedFrontMatter,
    /// The front matter is not what YAML calls a mapping, or no YAML at all.
    #[error("the front matter cannot be read: {0}")]
    Yaml(String),
    /// A key that prompts do not have.
    #[error("there is no key `{key}`{}; the keys are {keys}", did_you_mean(*suggestion))]
    UnknownKey {
        /// The key.
        key: String,
        /// The key that may have been meant.
        suggestion: Option<&'static str>,
        /// All keys.
        keys: String,
    },
    /// A value of the wrong kind.
    #[error("`{key}` must {must}")]
    Must {
        /// The key.
        key: &'static str,
        /// What it must do.
        must: &'static str,
    },
    /// Neither the prompt nor the command line names a model.
    #[error("no model is named: pass `--model provider/model`, or write `model:` in the prompt")]
    NoModel,
    /// Two demands on one answer.
    #[error("a prompt has `choices` or a `schema`, not both")]
    ChoicesAndSchema,
    /// No choice at all.
    #[error("`choices` must have at least two labels")]
    TooFewChoices,
    /// A label without a text.
    #[error("label {position} of `choices` is empty; a label such as null is written in quotes")]
    BlankChoice {
        /// Which, from 1.
        position: usize,
    },
    /// A label that is there twice.
    #[error("the label `{label}` is there twice")]
    DoubledChoice {
        /// The label.
        label: String,
    },
    /// The schema is not usable.
    #[error(transparent)]
    Schema(SchemaError),
    /// The schema's file is not usable.
    #[error("the schema in `{path}` cannot be used: {what}")]
    SchemaFile {
        /// The file, as the prompt names it.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A limit without what it limits.
    #[error("`max_tokens_limit` needs `max_tokens`")]
    LimitOfNothing,
    /// A limit that is exceeded from the start.
    #[error("`max_tokens_limit` ({limit}) is below `max_tokens` ({max_tokens})")]
    LimitBelow {
        /// The limit.
        limit: u32,
        /// What it limits.
        max_tokens: u32,
    },
    /// The endpoint does not take so few.
    #[error("`max_tokens` must be at least {minimum} for the endpoint `{}`", endpoint.as_str())]
    TooFewTokens {
        /// The endpoint's minimum.
        minimum: u32,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// One value is set in two ways.
    #[error("`{first}` and `{second}` set the same; keep one")]
    SetTwice {
        /// One key.
        first: String,
        /// The other key.
        second: String,
    },
    /// A body parameter that is not the prompt's to set.
    #[error("`parameters` cannot set `{key}`: {why}")]
    OwnParameter {
        /// The parameter.
        key: String,
        /// Why not.
        why: &'static str,
    },
    /// A body parameter that the endpoint does not have.
    #[error("the endpoint `{}` has no parameter `{key}`", endpoint.as_str())]
    ForeignParameter {
        /// The parameter.
        key: String,
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Text that belongs to no message.
    #[error(
        "there is text before the first message; start it with a line `system:` or `user:`, \
         or leave out all such lines"
    )]
    TextBeforeMessages,
    /// No text at all.
    #[error("the prompt has no text")]
    Empty,
    /// A message without a text.
    #[error("this `{}:` message is empty", role.as_str())]
    EmptyMessage {
        /// Who speaks in it.
        role: Role,
    },
    /// Nothing is asked.
    #[error("the prompt has no `user:` message")]
    NoUserMessage,
}

impl Problem {
    pub(super) fn must(key: &'static str, must: &'static str) -> Self {
        Self::Must { key, must }
    }

    pub(super) fn on(self, line: u64) -> PromptError {
        PromptError { line: Some(line), problem: self }
    }

    pub(super) fn anywhere(self) -> PromptError {
        PromptError { line: None, problem: self }
    }

    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self)
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|key| format!(" (did you mean `{key}`?)")).unwrap_or_default()
}
