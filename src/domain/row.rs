//! Rows on their way from a file into the record.

/// One record of a table, as a reader hands it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRow<'a> {
    /// The line of the file on which the record starts, counted from 1.
    pub line: u64,
    /// The cells as the text of one JSON object, columns in the file's order.
    pub cells_json: &'a str,
    /// What makes this row this row.
    pub identity: Identity<'a>,
}

/// What makes a row itself, so that adding it again adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// The text of its key column.
    Key(&'a str),
    /// SHA-256 over its cells, whatever the order of the columns.
    Content([u8; 32]),
}

/// What is known of a file once it has been read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// `csv`, `tsv` or `jsonl`.
    pub format: String,
    /// The encoding's name in the WHATWG standard, such as `UTF-8` or `EUC-KR`.
    pub encoding: String,
    /// SHA-256 of the file's bytes.
    pub sha256: [u8; 32],
    /// The file's size.
    pub bytes: u64,
    /// Its columns, in order of first appearance.
    pub columns: Vec<String>,
}
