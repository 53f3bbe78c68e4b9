//! Wire dialects: what is written to a model's server and how its reply is read. Nothing here sends.
//!
//! ```text
//!   PromptSpec + messages ──encode──▶ body bytes ──(engine sends)──▶ status, headers, bytes ──decode──▶ Reading
//!                                                                          └──limits──▶ pace
//! ```
//!
//! Every function is a pure one of its arguments: no socket, no clock, no environment. So a provider
//! is tested with recorded samples (`fixtures/wire/`) and no network. Facts come from OpenAI's
//! specification 2.3.0 and the documentation of the compatible servers.
//!
//! Nothing here may put a key, or a part of an answer, into a message.

pub mod batch;
pub mod catalog;
mod decode;
mod encode;
mod endpoint;
mod headers;
mod limits;
mod schemas;

pub use decode::reading;
pub use encode::{Encoder, ParameterError, WireAnswer, check_parameters};
pub use endpoint::{BaseUrlError, endpoint_url};
pub use headers::{ReplyHeaders, WindowText};
pub use limits::{RateHeaders, Window, wait_in_message};
pub use schemas::refuses_schemas;
