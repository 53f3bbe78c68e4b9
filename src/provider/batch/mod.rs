//! The dialect of OpenAI's Files and Batch APIs: what is written and how it is read. Nothing here sends.
//!
//! ```text
//!   bodies ──input──▶ one line each ──▶ file ──▶ batch ──look──▶ objects: status, file ids, problems
//!                                        └─refused─▶ refusal        └─ended─▶ bytes ──lines──▶ results
//! ```
//!
//! Servers that copy these APIs disagree on case, on nulls and on the form of times, so only what is
//! needed is looked at and each form that was seen is taken. Every decoder takes any bytes, and none
//! repeats what it could not read: result lines and uploaded rows are people's data. Facts come from
//! OpenAI's specification 2.3.0, its guide, and recorded replies.

mod input;
mod lines;
mod objects;
mod problems;
mod refusal;
mod results;
mod shapes;
mod status;
mod urls;

#[cfg(test)]
mod samples;

pub use input::{
    NewBatch, attempt_of, create_body, custom_id, file_name, input_line_bytes, write_input_line,
};
pub use lines::{Line, Lines, MAX_LINE_BYTES};
pub use objects::{
    BatchObject, Entry, FileObject, Page, Unreadable, batch_object, batch_page, file_object,
    file_page,
};
pub use problems::{BatchProblem, TokenLimit, token_limit};
pub use refusal::{Refusal, RefusalOf, mentions_expiry, mentions_missing_file, refusal};
pub use results::{Garbled, ResultLine, result_line};
pub use urls::BatchUrls;
