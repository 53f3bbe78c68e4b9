//! A row with its answers, on its way from the record to a file or a screen.

use super::{BatchId, Fingerprint, NanoUsd, State, UnixMs, Usage};

/// One live row and what each prompt came to on it.
#[derive(Clone, Debug)]
pub struct AnswerRow {
    /// Its position in the table, from 1.
    pub position: i64,
    /// Its key.
    pub key: String,
    /// Its cells, as the text of one JSON object.
    pub cells: String,
    /// One a prompt, in the order in which the prompts were asked for.
    pub answers: Vec<AnswerCell>,
}

/// What one prompt came to on one row.
#[derive(Clone, Debug)]
pub struct AnswerCell {
    /// The state of its request; pending where none was made.
    pub state: State,
    /// The answer, where there is one.
    pub answer: Option<String>,
    /// The rest, where a request was made.
    pub details: Option<AnswerDetails>,
}

/// How an answer came about.
#[derive(Clone, Debug)]
pub struct AnswerDetails {
    /// `realtime` or `batch`, where an attempt was made.
    pub route: Option<String>,
    /// The batch that brought the reply.
    pub batch: Option<BatchId>,
    /// The provider's id for the request.
    pub provider_request_id: Option<String>,
    /// The provider's word for why it stopped.
    pub finish_reason: Option<String>,
    /// Tokens over all attempts of the request.
    pub usage: Usage,
    /// Cost over all attempts of the request; `None` where unknown.
    pub cost: Option<NanoUsd>,
    /// How many attempts were made.
    pub attempts: u32,
    /// What went wrong, for a failed request.
    pub error: Option<String>,
    /// When the answer was recorded.
    pub answered_at: Option<UnixMs>,
    /// Of the request's body.
    pub fingerprint: Option<Fingerprint>,
}
