//! What can go wrong in a template, told without the content of any cell.
//!
//! The engine's own errors hold values and must not leave this module's parent: only their kind,
//! their place and text of the template itself are taken over.

use std::fmt;

use minijinja::ErrorKind;

use crate::domain::PromptSpec;

/// Why a prompt could not be compiled, or not be rendered for a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template is not Jinja.
    #[error("{place}: {what}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the engine met and what it expected.
        what: String,
    },
    /// The template names a filter or test that does not exist.
    #[error("{place}: there is no {what} `{name}`")]
    UnknownName {
        /// Where.
        place: Place,
        /// `filter` or `test`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The row has no such cell, or a cell has no such part.
    #[error("{place}: `{name}` is undefined in this row")]
    Undefined {
        /// Where.
        place: Place,
        /// The expression, as the template has it.
        name: String,
    },
    /// An operation or filter that this row's cells do not allow.
    #[error("{place}: {what} in `{expression}`")]
    Failed {
        /// Where.
        place: Place,
        /// What kind of failure it is.
        what: String,
        /// The expression, as the template has it.
        expression: String,
    },
    /// A text cell is put in order with a number, which has no meaning.
    #[error(
        "`{0}` is text in this row; to compare it with a number write `{0}|float`",
        in_template(column)
    )]
    TextInOrder {
        /// The column.
        column: String,
    },
    /// The template would work for too long on this row.
    #[error("the template does too much work for this row")]
    TooMuchWork,
    /// A message became too long.
    #[error("a message of this row is longer than {} MiB", limit_bytes >> 20)]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// A cell's lists and objects are nested too deep.
    #[error("a cell of this row is nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The cells are not the text of one JSON object.
    #[error("the row's cells are not a JSON object")]
    BadCells,
}

/// A line of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// The message whose lines are counted, from 1; `None` if they are those of the prompt's file.
    pub message: Option<usize>,
}

impl Place {
    /// Returns where each message of a prompt starts, in the prompt's file if it is found there.
    pub(super) fn of_messages(prompt: &PromptSpec) -> Vec<Self> {
        let source = prompt.source.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let mut from = end_of_front_matter(&source);
        let mut places = Vec::new();
        for message in &prompt.messages {
            let found = line_starts(&source, from)
                .find(|start| source[*start..].starts_with(&message.template));
            places.push(match found {
                Some(start) => {
                    from = start + message.template.len();
                    Self { line: newlines(&source[..start]) + 1, message: None }
                }
                None => Self { line: 1, message: Some(places.len() + 1) },
            });
        }
        places
    }

    /// Returns the place of a line (from 1) of the template that starts here.
    fn at_line(self, line: usize) -> Self {
        Self { line: self.line + line.saturating_sub(1), ..self }
    }

    /// Returns the place of a byte of the template that starts here.
    pub(super) fn at_byte(self, template: &str, byte: usize) -> Self {
        self.at_line(newlines(template.get(..byte).unwrap_or_default()) + 1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message {
            Some(message) => write!(f, "line {} of message {message}", self.line),
            None => write!(f, "line {} of the prompt", self.line),
        }
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn end_of_front_matter(source: &str) -> usize {
    let blank = source.len() - source.trim_start().len();
    match source[blank..].strip_prefix("---") {
        Some(inside) => inside.find("\n---").map_or(0, |end| blank + 3 + end + 4),
        None => 0,
    }
}

fn line_starts(source: &str, from: usize) -> impl Iterator<Item = usize> {
    let first = (from == 0 || source[..from].ends_with('\n')).then_some(from);
    first.into_iter().chain(source[from..].match_indices('\n').map(move |(at, _)| from + at + 1))
}

/// Tells what is wrong with a template's syntax.
pub(super) fn syntax(error: &minijinja::Error, start: Place, template: &str) -> RenderError {
    let mut what = error.detail().map_or_else(|| error.kind().to_string(), plainly);
    let met = error.range().and_then(|range| template.get(range.start..)?.chars().next());
    if met.is_some_and(|met| !met.is_ascii() && met.is_alphabetic()) {
        what.push_str("; a column with letters beyond ASCII is written row['…']");
    }
    RenderError::Syntax { place: start.at_line(error.line().unwrap_or(1)), what }
}

/// Names what the engine calls by names of its own as it stands in a prompt.
fn plainly(detail: &str) -> String {
    detail
        .replace("end of variable block", "`}}`")
        .replace("end of block", "`%}`")
        .replace("end of input", "end of the prompt")
}

/// Tells why a template failed on a row.
pub(super) fn at_row(error: &minijinja::Error, start: Place) -> RenderError {
    let place = start.at_line(error.line().unwrap_or(1));
    let expression = expression(error);
    match error.kind() {
        ErrorKind::OutOfFuel => RenderError::TooMuchWork,
        ErrorKind::UndefinedError => {
            let name = undefined_name(error).unwrap_or(expression);
            RenderError::Undefined { place, name }
        }
        kind => {
            let what = safe_detail(error).map_or_else(|| kind.to_string(), str::to_owned);
            RenderError::Failed { place, what, expression }
        }
    }
}

/// Returns the detail of an error whose detail never holds a value.
fn safe_detail(error: &minijinja::Error) -> Option<&str> {
    let detail = error.detail()?;
    let safe = match error.kind() {
        ErrorKind::UnknownMethod | ErrorKind::UnknownFunction => true,
        _ => detail.starts_with("tried to use "),
    };
    safe.then_some(detail)
}

/// Returns the template's text at which the engine failed.
fn expression(error: &minijinja::Error) -> String {
    let text = error
        .range()
        .and_then(|range| error.template_source()?.get(range))
        .unwrap_or("this template");
    let mut short: String = text.chars().take(LONGEST_EXCERPT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

const LONGEST_EXCERPT: usize = 80;

/// Returns the undefined name that the engine quotes, provided that it is the template's text.
fn undefined_name(error: &minijinja::Error) -> Option<String> {
    let name = error.detail()?.strip_prefix('`')?.split_once('`')?.0;
    error.template_source()?.contains(name).then(|| name.to_owned())
}

/// Names in a prompt that are no columns of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownColumns {
    /// The names, in alphabetical order.
    pub unknown: Vec<UnknownColumn>,
    /// The columns that there are, in the table's order.
    pub columns: Vec<String>,
}

/// A name in a prompt that is no column of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownColumn {
    /// The name.
    pub name: String,
    /// The column that may have been meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for UnknownColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table has no column ")?;
        let last = self.unknown.len().saturating_sub(1);
        for (index, unknown) in self.unknown.iter().enumerate() {
            let joint = match index {
                0 => "",
                _ if index == last => " or ",
                _ => ", ",
            };
            write!(f, "{joint}`{}`", unknown.name)?;
            if let Some(suggestion) = &unknown.suggestion {
                write!(f, " (did you mean `{}`?)", in_template(suggestion))?;
            }
        }
        if self.columns.is_empty() {
            return f.write_str("; it has no columns at all");
        }
        let shown: Vec<String> =
            self.columns.iter().take(MOST_COLUMNS).map(|name| in_template(name)).collect();
        write!(f, "; its columns are {}", shown.join(", "))?;
        match self.columns.len().saturating_sub(MOST_COLUMNS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

const MOST_COLUMNS: usize = 30;

/// Returns how a template names a column.
fn in_template(column: &str) -> String {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    let identifier = column.starts_with(starts)
        && column.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.contains(&column);
    if identifier {
        column.to_owned()
    } else if column.contains('\'') {
        format!("row[\"{column}\"]")
    } else {
        format!("row['{column}']")
    }
}

/// Identifiers that a template cannot use as variables for columns.
const KEYWORDS: [&str; 14] = [
    "row", "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False",
    "None",
];
