//! The faults there are, and the moments at which each may strike.
//!
//! A fault is named for what is seen from outside. Those that spoil the answer itself strike calls
//! and lines of batches alike; each of the others belongs to one moment, and those of batches have
//! it in their name.

use std::fmt;

/// A point at which faults are drawn; what `WHEN` counts is how often this point was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// A call that would be answered.
    Call,
    /// An upload that would be taken; it is the same again with the same bytes.
    Upload,
    /// A batch that would be created; it is the same again with the same input file.
    Create,
    /// How a batch goes that was created and found valid; it is the same again with the same bytes.
    Batch,
    /// How such a batch tells of its results; counted as [`Moment::Batch`] is.
    Result,
    /// A line of a batch that would be answered; it is the same again with the same body.
    Line,
    /// A look at a batch that is there; it is the same again with the same batch.
    Poll,
    /// A download of a result file; it is the same again with the same file.
    Content,
}

impl Moment {
    /// Every moment, in the order in which they are listed to people.
    pub const ALL: [Self; 8] = [
        Self::Call,
        Self::Upload,
        Self::Create,
        Self::Batch,
        Self::Result,
        Self::Line,
        Self::Poll,
        Self::Content,
    ];
}

/// Something that a provider, or the way to it, can do to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// 429 `rate_limit_exceeded`, with a short `retry-after-ms`.
    RateLimit,
    /// 429 `insufficient_quota`.
    Quota,
    /// 500 `server_error`.
    ServerError,
    /// 503 `server_is_overloaded`.
    Overloaded,
    /// 401 `invalid_api_key`.
    Unauthorized,
    /// 403, a country that is not served.
    Forbidden,
    /// 404 `model_not_found`.
    ModelNotFound,
    /// 400 `invalid_value`.
    InvalidRequest,
    /// 400 `context_length_exceeded`.
    Context,
    /// 413.
    TooLarge,
    /// The connection is reset (TCP RST) before any byte of a reply.
    Reset,
    /// The connection is closed in good order, without a reply.
    Close,
    /// No reply comes; the connection is closed after [`super::Settings::hang`].
    Hang,
    /// The reply comes in small parts.
    Slow,
    /// The reply ends before the length that it announced.
    Cut,
    /// A reply of 200 whose JSON is broken off.
    BadJson,
    /// A gateway's 502, an HTML page.
    Html,
    /// A reply of 200 without a body.
    Empty,
    /// The model declines.
    Refusal,
    /// The answer is withheld by a filter.
    ContentFilter,
    /// The answer is cut as by the token limit; once for each model and conversation.
    Length,
    /// A reply of 200 whose `choices` (or `output`) is a string.
    WrongType,
    /// An answer that is outside of the schema or the choices.
    WrongLabel,
    /// The answer is made and charged, and then the connection is reset.
    Lost,
    /// 500 `server_error`, and no file is made.
    UploadServerError,
    /// The file is made, and then the connection is closed without a reply.
    UploadLost,
    /// 500 `server_error`, and no batch is made.
    CreateServerError,
    /// 429 `rate_limit_exceeded` with `retry-after`, and no batch is made.
    CreateRateLimit,
    /// 404: the input file is not found yet, and no batch is made.
    CreateNotFound,
    /// The batch is made, and then the connection is closed without a reply.
    CreateLost,
    /// The batch fails in validation: nothing is done or charged.
    BatchFailed,
    /// The batch fails in validation with `token_limit_exceeded`.
    BatchTokens,
    /// The batch fails half done: what was done is in the output file, and charged.
    BatchBroken,
    /// The batch expires half done.
    BatchExpired,
    /// The provider cancels the batch half done.
    BatchCancelled,
    /// The batch is forgotten once it was in progress: nothing is charged, each look is a 404.
    BatchVanished,
    /// The batch stays `finalizing` for five looks more, or for the delay once more.
    BatchStuck,
    /// An id of a file that there is not is an empty string instead of `null`.
    ResultEmptyIds,
    /// Where there are no errors, the error file has zero bytes.
    ResultEmptyFile,
    /// `request_counts` says what is not so: failed for completed, and one request short.
    ResultCounts,
    /// The line's reply is a 429, in the error file.
    LineRateLimit,
    /// The line's reply is a 500, in the error file.
    LineServerError,
    /// The line is worked on and charged, and stands in neither file.
    LineMissing,
    /// The line stands in the output file twice.
    LineDoubled,
    /// The line's result stands under a `custom_id` that nobody sent.
    LineUnknown,
    /// The line's result is broken off, so that it is no JSON.
    LineGarbled,
    /// The line's result has U+2028, U+2029 and U+0085 inside a string.
    LineSeparator,
    /// The line has its answer in the output file and a 500 in the error file.
    LineBoth,
    /// 500 `server_error`.
    PollServerError,
    /// 429 `rate_limit_exceeded` with `retry-after`.
    PollRateLimit,
    /// 404, as if there were no such file.
    ContentNotFound,
    /// 500 `server_error`.
    ContentServerError,
    /// The content ends before the length that it announced.
    ContentCut,
}

/// Where an answer is made.
const ANSWER: &[Moment] = &[Moment::Call, Moment::Line];

impl Fault {
    /// Every fault, in the order in which they are listed to people.
    pub const ALL: [Self; 53] = [
        Self::RateLimit,
        Self::Quota,
        Self::ServerError,
        Self::Overloaded,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::InvalidRequest,
        Self::Context,
        Self::TooLarge,
        Self::Reset,
        Self::Close,
        Self::Hang,
        Self::Slow,
        Self::Cut,
        Self::BadJson,
        Self::Html,
        Self::Empty,
        Self::Refusal,
        Self::ContentFilter,
        Self::Length,
        Self::WrongType,
        Self::WrongLabel,
        Self::Lost,
        Self::UploadServerError,
        Self::UploadLost,
        Self::CreateServerError,
        Self::CreateRateLimit,
        Self::CreateNotFound,
        Self::CreateLost,
        Self::BatchFailed,
        Self::BatchTokens,
        Self::BatchBroken,
        Self::BatchExpired,
        Self::BatchCancelled,
        Self::BatchVanished,
        Self::BatchStuck,
        Self::ResultEmptyIds,
        Self::ResultEmptyFile,
        Self::ResultCounts,
        Self::LineRateLimit,
        Self::LineServerError,
        Self::LineMissing,
        Self::LineDoubled,
        Self::LineUnknown,
        Self::LineGarbled,
        Self::LineSeparator,
        Self::LineBoth,
        Self::PollServerError,
        Self::PollRateLimit,
        Self::ContentNotFound,
        Self::ContentServerError,
        Self::ContentCut,
    ];

    /// Returns the fault's word on the command line and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "429",
            Self::Quota => "quota",
            Self::ServerError => "500",
            Self::Overloaded => "503",
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::ModelNotFound => "404",
            Self::InvalidRequest => "400",
            Self::Context => "context",
            Self::TooLarge => "413",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::BadJson => "badjson",
            Self::Html => "html",
            Self::Empty => "empty",
            Self::Refusal => "refusal",
            Self::ContentFilter => "content_filter",
            Self::Length => "length",
            Self::WrongType => "wrongtype",
            Self::WrongLabel => "wronglabel",
            Self::Lost => "lost",
            Self::UploadServerError => "upload_500",
            Self::UploadLost => "upload_lost",
            Self::CreateServerError => "create_500",
            Self::CreateRateLimit => "create_429",
            Self::CreateNotFound => "create_404",
            Self::CreateLost => "create_lost",
            Self::BatchFailed => "batch_failed",
            Self::BatchTokens => "batch_tokens",
            Self::BatchBroken => "batch_broken",
            Self::BatchExpired => "batch_expired",
            Self::BatchCancelled => "batch_cancelled",
            Self::BatchVanished => "batch_vanished",
            Self::BatchStuck => "batch_stuck",
            Self::ResultEmptyIds => "result_emptyid",
            Self::ResultEmptyFile => "result_emptyfile",
            Self::ResultCounts => "result_counts",
            Self::LineRateLimit => "line_429",
            Self::LineServerError => "line_500",
            Self::LineMissing => "line_missing",
            Self::LineDoubled => "line_doubled",
            Self::LineUnknown => "line_unknown",
            Self::LineGarbled => "line_garbled",
            Self::LineSeparator => "line_separator",
            Self::LineBoth => "line_both",
            Self::PollServerError => "poll_500",
            Self::PollRateLimit => "poll_429",
            Self::ContentNotFound => "content_404",
            Self::ContentServerError => "content_500",
            Self::ContentCut => "content_cut",
        }
    }

    /// Returns the moments at which it may strike.
    pub fn moments(self) -> &'static [Moment] {
        match self {
            Self::RateLimit
            | Self::Quota
            | Self::ServerError
            | Self::Overloaded
            | Self::Unauthorized
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::InvalidRequest
            | Self::Context
            | Self::TooLarge
            | Self::Reset
            | Self::Close
            | Self::Hang
            | Self::Slow
            | Self::Cut
            | Self::BadJson
            | Self::Html
            | Self::Empty
            | Self::Lost => &[Moment::Call],
            Self::Refusal
            | Self::ContentFilter
            | Self::Length
            | Self::WrongType
            | Self::WrongLabel => ANSWER,
            Self::UploadServerError | Self::UploadLost => &[Moment::Upload],
            Self::CreateServerError
            | Self::CreateRateLimit
            | Self::CreateNotFound
            | Self::CreateLost => &[Moment::Create],
            Self::BatchFailed
            | Self::BatchTokens
            | Self::BatchBroken
            | Self::BatchExpired
            | Self::BatchCancelled
            | Self::BatchVanished
            | Self::BatchStuck => &[Moment::Batch],
            Self::ResultEmptyIds | Self::ResultEmptyFile | Self::ResultCounts => &[Moment::Result],
            Self::LineRateLimit
            | Self::LineServerError
            | Self::LineMissing
            | Self::LineDoubled
            | Self::LineUnknown
            | Self::LineGarbled
            | Self::LineSeparator
            | Self::LineBoth => &[Moment::Line],
            Self::PollServerError | Self::PollRateLimit => &[Moment::Poll],
            Self::ContentNotFound | Self::ContentServerError | Self::ContentCut => {
                &[Moment::Content]
            }
        }
    }

    /// Returns the fault that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == word)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_one_word_and_a_moment() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.as_str()), Some(fault));
            assert!(!fault.moments().is_empty());
        }
    }

    #[test]
    fn faults_of_batches_name_their_moment() {
        for fault in Fault::ALL {
            let [moment] = fault.moments() else { continue };
            let name = format!("{moment:?}_").to_lowercase();
            assert_eq!(fault.as_str().starts_with(&name), *moment != Moment::Call, "{fault}");
        }
    }
}
