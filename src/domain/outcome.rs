//! What an attempt came to, and what a reply says.

use super::FailureClass;

/// How an attempt ended; an attempt without one is a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The reply holds an accepted answer.
    Answered,
    /// The reply was cut by the token limit.
    Truncated,
    /// No answer, for this reason.
    Failed(FailureClass),
    /// The process was gone before an outcome could be recorded; the provider may have billed it.
    InDoubt,
}

impl Outcome {
    /// Returns the outcome's word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Truncated => "truncated",
            Self::Failed(_) => "failed",
            Self::InDoubt => "in_doubt",
        }
    }

    /// Says whether the provider wrote something, which it may bill.
    pub fn has_text(self) -> bool {
        match self {
            Self::Answered | Self::Truncated => true,
            Self::Failed(_) | Self::InDoubt => false,
        }
    }

    /// Returns the outcome that a word and, for a failure, its class stand for.
    pub fn parse(word: &str, class: Option<&str>) -> Option<Self> {
        match word {
            "answered" => Some(Self::Answered),
            "truncated" => Some(Self::Truncated),
            "failed" => class.and_then(FailureClass::parse).map(Self::Failed),
            "in_doubt" => Some(Self::InDoubt),
            _ => None,
        }
    }
}

/// Tokens that a provider says it counted for one reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// Input tokens served from the provider's prompt cache.
    pub cached: u64,
    /// Input tokens that the provider put into its prompt cache, and bills as such; none of them is a cached one.
    pub cache_write: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.cached += other.cached;
        self.cache_write += other.cache_write;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }
}

/// What a decoder reads in one reply. It holds people's data: never logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What the reply comes to.
    pub verdict: Verdict,
    /// The provider's own word for why it stopped (`stop`, `length`, …).
    pub finish_reason: Option<String>,
    /// What the provider says it counted; a failed or truncated reply can be billed too.
    pub usage: Option<Usage>,
    /// The provider's id for this request, for its support desk.
    pub provider_request_id: Option<String>,
    /// The model that the provider says it used.
    pub served_model: Option<String>,
}

impl Reading {
    /// Makes a reading of a failure that carries nothing else.
    pub fn failed(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed { class, message: message.into() },
            finish_reason: None,
            usage: None,
            provider_request_id: None,
            served_model: None,
        }
    }
}

/// What a reply comes to, before the prompt's own demands are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A whole text.
    Text(String),
    /// A text cut by the token limit; may be empty.
    Truncated(String),
    /// No text.
    Failed {
        /// The class that decides what happens next.
        class: FailureClass,
        /// What the provider said, or what is wrong with its reply; no part of an answer.
        message: String,
    },
}
