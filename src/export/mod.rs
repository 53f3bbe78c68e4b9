//! Writers: rows with their answers, as files.
//!
//! ```text
//! Shape ──▶ Layout (which columns, under which names)
//!             │
//! AnswerRow ──▶ Table ──▶ csv │ jsonl ──▶ whatever takes bytes
//! ```
//!
//! Row by row, in a memory that does not grow with the table. Cells pass as they came: a number
//! keeps its digits, a string its spaces, an object in JSON Lines its order. Nothing here knows
//! where rows come from or where bytes go, and nothing here prints.

mod csv;
mod formula;
mod jsonl;
mod layout;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use csv::{CsvStyle, Mark};
pub use formula::Formulas;
pub use layout::{AnswerKind, Details, Form, Layout, Naming, PromptPart, Shape};
pub use table::{ExportError, Format, Selection, Table, Written};
