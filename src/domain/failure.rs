//! The closed list of ways in which a request can fail, with what each one means for the run.

/// Why an attempt (or the making of its request) failed.
///
/// Three facts hang on each class and decide everything that happens next:
/// [`is_retried`](Self::is_retried), [`stops_run`](Self::stops_run) and
/// [`uses_attempt`](Self::uses_attempt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// 429: the pace was wrong, not the row.
    RateLimited,
    /// 503, 529: the provider has no capacity now.
    Overloaded,
    /// Any other 5xx.
    ServerError,
    /// No complete reply within the time allowed, or 408.
    Timeout,
    /// The connection broke before the whole reply was there.
    Connection,
    /// No connection could be made: nothing was sent.
    Unreachable,
    /// The account has no money or has met its spending limit.
    QuotaExhausted,
    /// 401: the key is missing or wrong.
    Unauthorized,
    /// 403: the key may not do this.
    Forbidden,
    /// The provider does not have this model.
    ModelNotFound,
    /// The server has no such path, or sends us elsewhere: the base URL is wrong.
    EndpointNotFound,
    /// The provider will not take this body.
    InvalidRequest,
    /// The row and its prompt are longer than the model can read.
    ContextTooLong,
    /// 413: the body is bigger than the server accepts.
    RequestTooLarge,
    /// The provider's filter withheld the prompt or the answer.
    ContentFiltered,
    /// The model declined to answer.
    Refused,
    /// The server takes no JSON Schema: the prompt is asked in words from then on.
    SchemaUnsupported,
    /// The answer does not meet the prompt's schema or choices.
    InvalidAnswer,
    /// A reply that breaks the provider's own format.
    MalformedReply,
    /// The template could not be rendered for this row; nothing was sent.
    RenderFailed,
    /// The batch's window closed before this line was done.
    BatchExpired,
    /// The batch was cancelled before this line was done.
    BatchCancelled,
    /// The batch failed as a whole.
    BatchFailed,
    /// The batch ended with no line for this request.
    MissingFromBatch,
}

impl FailureClass {
    /// Every class, in the order in which they are reported.
    pub const ALL: [Self; 24] = [
        Self::RateLimited,
        Self::Overloaded,
        Self::ServerError,
        Self::Timeout,
        Self::Connection,
        Self::Unreachable,
        Self::QuotaExhausted,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::EndpointNotFound,
        Self::InvalidRequest,
        Self::ContextTooLong,
        Self::RequestTooLarge,
        Self::ContentFiltered,
        Self::Refused,
        Self::SchemaUnsupported,
        Self::InvalidAnswer,
        Self::MalformedReply,
        Self::RenderFailed,
        Self::BatchExpired,
        Self::BatchCancelled,
        Self::BatchFailed,
        Self::MissingFromBatch,
    ];

    /// Returns the class's word in SQL, JSON and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Unreachable => "unreachable",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ModelNotFound => "model_not_found",
            Self::EndpointNotFound => "endpoint_not_found",
            Self::InvalidRequest => "invalid_request",
            Self::ContextTooLong => "context_too_long",
            Self::RequestTooLarge => "request_too_large",
            Self::ContentFiltered => "content_filtered",
            Self::Refused => "refused",
            Self::SchemaUnsupported => "schema_unsupported",
            Self::InvalidAnswer => "invalid_answer",
            Self::MalformedReply => "malformed_reply",
            Self::RenderFailed => "render_failed",
            Self::BatchExpired => "batch_expired",
            Self::BatchCancelled => "batch_cancelled",
            Self::BatchFailed => "batch_failed",
            Self::MissingFromBatch => "missing_from_batch",
        }
    }

    /// Returns the class that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// Says whether the same request is tried again without being asked.
    pub fn is_retried(self) -> bool {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::ServerError
            | Self::Timeout
            | Self::Connection
            | Self::Unreachable
            | Self::SchemaUnsupported
            | Self::InvalidAnswer
            | Self::MalformedReply
            | Self::BatchExpired
            | Self::BatchCancelled
            | Self::BatchFailed
            | Self::MissingFromBatch
            // These stop the run; once the account, the key or the URL is mended, the row is due.
            | Self::QuotaExhausted
            | Self::Unauthorized
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::EndpointNotFound => true,
            Self::InvalidRequest
            | Self::ContextTooLong
            | Self::RequestTooLarge
            | Self::ContentFiltered
            | Self::Refused
            | Self::RenderFailed => false,
        }
    }

    /// Says whether every other request would fail alike, so that the run stops at once.
    pub fn stops_run(self) -> bool {
        match self {
            Self::QuotaExhausted
            | Self::Unauthorized
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::EndpointNotFound => true,
            Self::RateLimited
            | Self::Overloaded
            | Self::ServerError
            | Self::Timeout
            | Self::Connection
            | Self::Unreachable
            | Self::InvalidRequest
            | Self::ContextTooLong
            | Self::RequestTooLarge
            | Self::ContentFiltered
            | Self::Refused
            | Self::SchemaUnsupported
            | Self::InvalidAnswer
            | Self::MalformedReply
            | Self::RenderFailed
            | Self::BatchExpired
            | Self::BatchCancelled
            | Self::BatchFailed
            | Self::MissingFromBatch => false,
        }
    }

    /// Says whether a failure of this class counts against a request's bounded number of tries.
    pub fn uses_attempt(self) -> bool {
        match self {
            Self::Overloaded
            | Self::ServerError
            | Self::Timeout
            | Self::Connection
            | Self::InvalidRequest
            | Self::ContextTooLong
            | Self::RequestTooLarge
            | Self::ContentFiltered
            | Self::Refused
            | Self::InvalidAnswer
            | Self::MalformedReply
            | Self::RenderFailed
            | Self::BatchExpired
            | Self::MissingFromBatch => true,
            Self::RateLimited
            | Self::Unreachable
            | Self::SchemaUnsupported
            | Self::QuotaExhausted
            | Self::Unauthorized
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::EndpointNotFound
            | Self::BatchCancelled
            | Self::BatchFailed => false,
        }
    }
}

impl std::fmt::Display for FailureClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::FailureClass;

    #[test]
    fn every_class_has_one_word() {
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::parse(class.as_str()), Some(class));
        }
        assert_eq!(FailureClass::parse("unheard_of"), None);
    }

    #[test]
    fn what_stops_the_run_costs_no_row_an_attempt() {
        for class in FailureClass::ALL.into_iter().filter(|class| class.stops_run()) {
            assert!(!class.uses_attempt(), "{class}");
            assert!(class.is_retried(), "{class} is due once its cause is mended");
        }
    }
}
