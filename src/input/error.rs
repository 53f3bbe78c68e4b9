//! What can be wrong with a table: where, what, and what to type next.
//!
//! Messages name files, lines, columns and column names. They never hold a cell: cells are
//! people's data, and messages end up in logs.

use std::fmt;

use super::identity::closest;

/// A table that cannot be read, or cannot be read on.
#[derive(Debug)]
pub struct InputError {
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    problem: Problem,
}

impl InputError {
    /// Returns what is wrong, whatever the place.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Returns the line at which it is wrong, counted from 1, where there is one.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// Returns the column at which it is wrong, in characters counted from 1, where it is known.
    pub fn column(&self) -> Option<u64> {
        self.column
    }

    /// Returns what to do about it, as one sentence or command, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        self.problem.hint(&self.file)
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.file == "-" { "standard input" } else { &self.file })?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for InputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system failed to read it.
    #[error("cannot be read")]
    Io(#[source] std::io::Error),
    /// Its first bytes are those of another kind of file.
    #[error("this is {}, not a table in plain text", kind.name)]
    NotText {
        /// The kind of file it is.
        kind: &'static FileKind,
    },
    /// It holds no record at all.
    #[error("it is empty: not even a line of column names")]
    Empty,
    /// The `--encoding` is not one there is.
    #[error("there is no encoding called {label:?}")]
    UnknownEncoding {
        /// The name as typed.
        label: String,
    },
    /// Bytes that the encoding does not have.
    #[error("invalid {encoding} (byte {byte} of the file)")]
    Malformed {
        /// The encoding it is read in.
        encoding: &'static str,
        /// Which byte of the file is the first wrong one, counted from 1.
        byte: u64,
    },
    /// Not UTF-8, and no other encoding is certain.
    #[error("not UTF-8 (from byte {byte} of the file on); it looks like {}", likely.join(" or "))]
    UnclearEncoding {
        /// The first byte outside ASCII, counted from 1.
        byte: u64,
        /// The most likely encodings, best first.
        likely: Vec<&'static str>,
    },
    /// A NUL, which text tools cut text at.
    #[error("NUL byte in the text")]
    Nul,
    /// A `--delimiter` that cannot delimit.
    #[error("{0:?} cannot be a delimiter")]
    BadDelimiter(char),
    /// A `--delimiter` for JSON Lines.
    #[error("JSON Lines have no delimiter")]
    DelimiterOfJsonLines,
    /// A header cell without text.
    #[error("column number {number} has no name in the header")]
    UnnamedColumn {
        /// The column's number, counted from 1.
        number: usize,
    },
    /// Two columns of one name.
    #[error("columns number {first} and {second} are both called {name:?}")]
    DuplicateColumn {
        /// The name.
        name: String,
        /// The first column's number, counted from 1.
        first: usize,
        /// The second column's number.
        second: usize,
    },
    /// More columns than a table can have.
    #[error("there are more than {limit} columns")]
    TooManyColumns {
        /// How many there may be.
        limit: usize,
    },
    /// A record with more or fewer fields than the header.
    #[error("{}, the header has {columns}{}", fields_of(*fields), joined(*line, *last_line))]
    Ragged {
        /// How many fields the record has.
        fields: usize,
        /// How many the header has.
        columns: usize,
        /// The line on which the record starts.
        line: u64,
        /// The line on which it ends.
        last_line: u64,
        /// The delimiter in use.
        delimiter: char,
    },
    /// A quote that is still open at the end of the file.
    #[error("the quote that opens here is never closed")]
    UnclosedQuote,
    /// Text between a closing quote and the next delimiter, after a cell of several lines.
    #[error("text after the closing quote of a cell that began on line {opened}")]
    TextAfterQuote {
        /// The line on which the cell's quote opened.
        opened: u64,
    },
    /// One record that is larger than a reader keeps.
    #[error("the record that starts here is larger than {} MB", limit / 1_000_000)]
    RecordTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A JSON array where JSON Lines were meant.
    #[error("it holds one JSON array; JSON Lines hold one JSON object a line, without an array")]
    JsonArray,
    /// A JSON object that is laid out over several lines.
    #[error("the JSON object that starts here goes on; each line must be one JSON object")]
    JsonOverLines,
    /// A line that is not one JSON object.
    #[error("expected {expected}; each line must be one JSON object")]
    NotJson {
        /// What should have stood there.
        expected: &'static str,
    },
    /// A value that is not in JSON, or not safely.
    #[error("{0}")]
    BadJson(&'static str),
    /// One name twice in one JSON object.
    #[error("the name {name:?} stands twice in one object")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The `--key` column is not in the header.
    #[error("there is no column {key:?}; the columns are {}", listed(columns))]
    UnknownKey {
        /// The name as typed.
        key: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// A JSON object without the `--key` name.
    #[error("the key column {key:?} is missing; this object has {}", listed(names))]
    MissingKey {
        /// The key column.
        key: String,
        /// The names the object has.
        names: Vec<String>,
    },
    /// A row whose key is empty.
    #[error("the key column {key:?} is empty")]
    EmptyKey {
        /// The key column.
        key: String,
    },
    /// A key that is neither text nor a number.
    #[error("the key column {key:?} holds {found}; a key is a string or a number")]
    BadKey {
        /// The key column.
        key: String,
        /// What kind of value it holds.
        found: &'static str,
    },
}

impl Problem {
    fn hint(&self, file: &str) -> Option<String> {
        Some(match self {
            Self::NotText { kind } => kind.hint(file),
            Self::UnknownEncoding { .. } => {
                "name one such as utf-8, utf-16le, cp949 (also euc-kr, uhc), shift_jis, gb18030, \
                 big5 or windows-1252"
                    .to_owned()
            }
            Self::Malformed { .. } => {
                "pass --encoding NAME if it is another encoding, or mend that line".to_owned()
            }
            Self::UnclearEncoding { likely, .. } => {
                let name = likely.first().map_or_else(|| "NAME".to_owned(), |n| n.to_lowercase());
                format!("if that is right, pass --encoding {name}")
            }
            Self::BadDelimiter(_) => {
                "a delimiter is one ASCII character, such as , ; | or a tab".to_owned()
            }
            Self::DelimiterOfJsonLines => "leave --delimiter out, or pass --format csv".to_owned(),
            Self::UnnamedColumn { .. } => {
                "give it a name in the header; if the column is empty, remove it".to_owned()
            }
            Self::DuplicateColumn { .. } => "rename one of them in the header".to_owned(),
            Self::Ragged { line, last_line, .. } if last_line > line => {
                format!("a quote that is not closed on line {line} joins lines")
            }
            Self::Ragged { fields, columns, delimiter, .. } if fields < columns => {
                format!("write a {delimiter:?} for each cell that is missing")
            }
            Self::Ragged { delimiter, .. } => format!(
                "put cells that hold {delimiter:?} in quotes, or name another delimiter with \
                 --delimiter"
            ),
            Self::UnclosedQuote => {
                "close it, or double it (\"\") if it belongs to the text".to_owned()
            }
            Self::TextAfterQuote { opened } => format!(
                "a quote on line {opened} may be one that belongs to the text: double it (\"\")"
            ),
            Self::RecordTooLarge { .. } => "a quote that opens there may never close".to_owned(),
            Self::JsonArray => piped(file, "jq -c '.[]'", " --format jsonl"),
            Self::JsonOverLines => piped(file, "jq -c .", " --format jsonl"),
            Self::UnknownKey { key, columns: names } | Self::MissingKey { key, names }
                if closest(key, names).is_some() =>
            {
                format!("did you mean --key {}?", quoted(closest(key, names)?))
            }
            Self::UnknownKey { .. }
            | Self::MissingKey { .. }
            | Self::EmptyKey { .. }
            | Self::BadKey { .. } => "without --key, rows are told apart by their cells".to_owned(),
            Self::Empty => "its first line must name the columns".to_owned(),
            Self::Nul if file == "-" => piped(file, "tr -d '\\000'", ""),
            Self::Nul => format!("tr -d '\\000' < {} | overnight add -", quoted(file)),
            Self::NotJson { .. } | Self::BadJson(_) | Self::DuplicateName { .. } => {
                "mend that line and add the file again; nothing of it was added".to_owned()
            }
            Self::Io(_) | Self::TooManyColumns { .. } => return None,
        })
    }
}

/// A kind of file that is no table in text, known by its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct FileKind {
    /// What it is, with its article.
    pub name: &'static str,
    /// How it becomes a table.
    pub(super) remedy: Remedy,
}

/// How a file of another kind becomes a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A command that writes what is inside to its standard output.
    Unpack(&'static str),
    /// Something to do elsewhere.
    Advice(&'static str),
}

impl FileKind {
    fn hint(&self, file: &str) -> String {
        match self.remedy {
            Remedy::Unpack(command) => piped(file, command, ""),
            Remedy::Advice(advice) => advice.to_owned(),
        }
    }
}

/// A problem in a place of a file whose name is not known here.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) line: Option<u64>,
    pub(super) column: Option<u64>,
    pub(super) problem: Problem,
}

impl Trouble {
    pub(super) fn at_line(line: u64, problem: Problem) -> Self {
        Self { line: Some(line), column: None, problem }
    }

    pub(super) fn at(line: u64, column: u64, problem: Problem) -> Self {
        Self { line: Some(line), column: Some(column), problem }
    }

    pub(super) fn in_file(self, file: &str) -> InputError {
        let Self { line, column, problem } = self;
        InputError { file: file.to_owned(), line, column, problem }
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self { line: None, column: None, problem }
    }
}

fn piped(file: &str, command: &str, options: &str) -> String {
    if file == "-" {
        format!("pipe it through `{command}` first")
    } else {
        format!("{command} {} | overnight add -{options}", quoted(file))
    }
}

/// Writes a word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=+:,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn fields_of(count: usize) -> String {
    format!("{count} {}", if count == 1 { "field" } else { "fields" })
}

fn joined(line: u64, last_line: u64) -> String {
    if last_line > line { format!(" (the record runs to line {last_line})") } else { String::new() }
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none".to_owned();
    }
    let list = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}
