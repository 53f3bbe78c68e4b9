//! The nouns: what every other layer talks about.
//!
//! Nothing here reads a clock, a file, a socket or the environment, and nothing here decides;
//! decisions are in [`crate::machine`]. Names are the words of the record, so an enum's
//! `as_str` is what stands in SQL and in `--json`, converted in this one place.

mod answer;
mod batch;
mod event;
mod failure;
mod fingerprint;
mod ids;
mod money;
mod outcome;
mod prompt;
mod row;
mod state;
mod time;

pub use answer::{AnswerCell, AnswerDetails, AnswerRow};
pub use batch::{BatchCounts, BatchEnd, BatchStatus, RemoteStatus, custom_id};
pub use event::{BatchNews, Event, HowEnded, Problem, Tally};
pub use failure::FailureClass;
pub use fingerprint::Fingerprint;
pub use ids::{AttemptId, BatchId, DictionaryId, PromptId, RequestId, RowId, RunId, SourceId};
pub use money::{LongPrice, NanoUsd, Price, PriceOrigin};
pub use outcome::{Outcome, Reading, Usage, Verdict};
pub use prompt::{
    AnswerFormat, Endpoint, Message, MessageTemplate, ModelName, PromptSpec, Role, Structured,
    TokenLimitField,
};
pub use row::{Identity, NewRow, SourceFacts};
pub use state::{Oversized, Route, State};
pub use time::UnixMs;
