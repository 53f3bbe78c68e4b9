//! A table on its way out: which lines a row comes to, and what stands on them.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use super::csv::{Csv, CsvStyle};
use super::jsonl::JsonLines;
use super::layout::{AnswerKind, Detail, Form, LaidOut, Layout, Of, Output, What};
use super::value::{Members, Names, Value};
use crate::domain::{AnswerCell, AnswerRow, FailureClass, NanoUsd, State, UnixMs};
use crate::machine::plan::observed;

/// The formats that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CSV in UTF-8.
    Csv(CsvStyle),
    /// JSON Lines.
    Jsonl,
}

/// Which states are wanted; no words mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(pub Vec<&'static str>);

/// What was written, and how all rows stand, written or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines written, without the header.
    pub lines: u64,
    /// Rows seen.
    pub rows: u64,
    /// Answers written that have fields which their schema does not name; those are not written.
    pub with_other_fields: u64,
    states: [u64; State::WORDS.len()],
}

/// A table that is being written.
pub struct Table<W: Write> {
    layout: Layout,
    selection: Selection,
    body: Body<W>,
    written: Written,
}

enum Body<W: Write> {
    Csv(Box<Csv<W>>),
    Jsonl(JsonLines<W>),
}

/// Why a row cannot be written. Holds nothing of what stands in it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file, or whoever reads the output, will not take it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody changed the record.
    #[error("the cells of row #{position} are no JSON object")]
    Cells {
        /// The row's position.
        position: i64,
    },
    /// Somebody changed the record.
    #[error("the answer to prompt {prompt} on row #{position} is no JSON object")]
    Answer {
        /// The row's position.
        position: i64,
        /// The prompt's name.
        prompt: String,
    },
}

impl Selection {
    fn takes(&self, state: State) -> bool {
        self.0.is_empty() || self.0.contains(&state.as_str())
    }
}

impl Written {
    /// Returns how many answers stand in each state, in the order in which states are reported.
    pub fn states(&self) -> impl Iterator<Item = (&'static str, u64)> {
        State::WORDS.into_iter().zip(self.states)
    }

    /// Returns how many stand in the state with this word.
    pub fn in_state(&self, word: &str) -> u64 {
        self.states().find(|(state, _)| *state == word).map_or(0, |(_, number)| number)
    }

    fn count(&mut self, state: State) {
        let at = State::WORDS.iter().position(|word| *word == state.as_str());
        if let Some(number) = at.and_then(|at| self.states.get_mut(at)) {
            *number += 1;
        }
    }
}

impl<W: Write> Table<W> {
    /// Starts a table; a CSV's header is written now.
    pub fn start(out: W, format: Format, layout: Layout, selection: Selection) -> io::Result<Self> {
        let body = match format {
            Format::Csv(style) => csv(out, style, &layout)?,
            Format::Jsonl => Body::Jsonl(JsonLines::start(out)),
        };
        Ok(Self { layout, selection, body, written: Written::default() })
    }

    /// Writes the lines that a row comes to: none, one, or one a prompt.
    pub fn row(&mut self, row: &AnswerRow) -> Result<(), ExportError> {
        self.written.rows += 1;
        let states = row.answers.iter().map(|cell| observed(cell.state, self.layout.liveness));
        let states: Vec<State> = states.collect();
        for state in &states {
            self.written.count(*state);
        }
        let is_wanted = |state: &State| self.selection.takes(*state);
        match self.layout.form {
            Form::Wide => match self.selection.0.is_empty() || states.iter().any(is_wanted) {
                true => self.line(row, &states, 0),
                false => Ok(()),
            },
            Form::Long => {
                let wanted: Vec<usize> =
                    (0..states.len()).filter(|&at| is_wanted(&states[at])).collect();
                wanted.into_iter().try_for_each(|prompt| self.line(row, &states, prompt))
            }
        }
    }

    /// Ends the table; what it was written to is handed back with everything in it.
    pub fn finish(self) -> io::Result<(W, Written)> {
        let out = match self.body {
            Body::Csv(csv) => csv.finish()?,
            Body::Jsonl(jsonl) => jsonl.finish()?,
        };
        Ok((out, self.written))
    }

    fn line(
        &mut self,
        row: &AnswerRow,
        states: &[State],
        prompt: usize,
    ) -> Result<(), ExportError> {
        let line = Line::new(&self.layout, row, states, prompt)?;
        self.written.lines += 1;
        self.written.with_other_fields += line.with_other_fields();
        match &mut self.body {
            Body::Csv(csv) => csv.line(&line),
            Body::Jsonl(jsonl) => jsonl.line(&line),
        }
    }
}

fn csv<W: Write>(out: W, style: CsvStyle, layout: &Layout) -> io::Result<Body<W>> {
    Csv::start(out, style, layout.columns()).map(|csv| Body::Csv(Box::new(csv)))
}

/// One line, ready to be asked what stands on it.
pub(super) struct Line<'a> {
    layout: &'a Layout,
    row: &'a AnswerRow,
    states: &'a [State],
    prompt: usize,
    /// The answers of prompts that have a column a field, split; empty in the long form.
    answers: Vec<Option<Members<'a>>>,
}

impl<'a> Line<'a> {
    fn new(
        layout: &'a Layout,
        row: &'a AnswerRow,
        states: &'a [State],
        prompt: usize,
    ) -> Result<Self, ExportError> {
        let answers = match layout.form {
            Form::Wide => layout
                .prompts
                .iter()
                .zip(&row.answers)
                .map(|(prompt, cell)| split_answer(row, prompt, cell))
                .collect::<Result<_, _>>()?,
            Form::Long => Vec::new(),
        };
        Ok(Self { layout, row, states, prompt, answers })
    }

    fn with_other_fields(&self) -> u64 {
        self.answers.iter().flatten().filter(|answer| answer.has_others).count() as u64
    }

    /// Returns the input's cells, one a column.
    pub(super) fn inputs(&self) -> Result<impl Iterator<Item = Value<'a>>, ExportError> {
        let members = self.split_cells(&self.layout.inputs)?;
        Ok(members.values.into_iter().map(Value::member))
    }

    /// Returns the members of the row's own object, as their text between the braces.
    pub(super) fn members(&self) -> Result<&'a str, ExportError> {
        self.split_cells(&Names::default())?;
        let inside =
            self.row.cells.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        Ok(inside.unwrap_or_default().trim())
    }

    fn split_cells(&self, names: &Names) -> Result<Members<'a>, ExportError> {
        let position = self.row.position;
        names.split(&self.row.cells).map_err(|_| ExportError::Cells { position })
    }

    /// Returns our columns with what stands in them.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.layout.outputs.iter().map(|output| (output.name.as_str(), self.value(output)))
    }

    fn value(&self, output: &Output) -> Value<'a> {
        let number = match output.of {
            Of::Prompt(number) => number,
            Of::Line => self.prompt,
        };
        let (Some(prompt), Some(cell)) =
            (self.layout.prompts.get(number), self.row.answers.get(number))
        else {
            return Value::Missing;
        };
        let state = self.states.get(number).copied().unwrap_or(cell.state);
        match output.what {
            What::Answer => answer(prompt, cell),
            What::Field(at) => {
                let answer = self.answers.get(number).and_then(Option::as_ref);
                Value::member(answer.and_then(|answer| answer.values.get(at).copied().flatten()))
            }
            What::State => Value::text(Some(state.as_str())),
            What::Detail(detail) => detail_of(detail, prompt, cell, state),
        }
    }
}

fn split_answer<'a>(
    row: &AnswerRow,
    prompt: &LaidOut,
    cell: &'a AnswerCell,
) -> Result<Option<Members<'a>>, ExportError> {
    let Some(answer) = &cell.answer else { return Ok(None) };
    if prompt.fields.list().is_empty() {
        return Ok(None);
    }
    let wrong =
        |_| ExportError::Answer { position: row.position, prompt: prompt.part.name.clone() };
    prompt.fields.split(answer).map(Some).map_err(wrong)
}

fn answer<'a>(prompt: &LaidOut, cell: &'a AnswerCell) -> Value<'a> {
    let Some(answer) = cell.answer.as_deref() else { return Value::Missing };
    match prompt.part.answer {
        AnswerKind::Object(_) if serde_json::from_str::<serde::de::IgnoredAny>(answer).is_ok() => {
            Value::Json(Cow::Borrowed(answer))
        }
        AnswerKind::Object(_) | AnswerKind::Text => Value::Text(Cow::Borrowed(answer)),
    }
}

fn detail_of<'a>(
    detail: Detail,
    prompt: &'a LaidOut,
    cell: &'a AnswerCell,
    state: State,
) -> Value<'a> {
    let made = cell.details.as_ref();
    let text = |text: Option<&'a String>| Value::text(text.map(String::as_str));
    match detail {
        Detail::Model => Value::text(Some(&prompt.part.model)),
        Detail::Prompt => Value::text(Some(&prompt.part.name)),
        Detail::PromptVersion => Value::number(Some(prompt.part.version)),
        Detail::Route => text(made.and_then(|made| made.route.as_ref())),
        Detail::BatchId => Value::number(made.and_then(|made| made.batch)),
        Detail::ProviderRequestId => text(made.and_then(|made| made.provider_request_id.as_ref())),
        Detail::FinishReason => text(made.and_then(|made| made.finish_reason.as_ref())),
        Detail::InputTokens => Value::number(made.map(|made| made.usage.input)),
        Detail::OutputTokens => Value::number(made.map(|made| made.usage.output)),
        Detail::CostUsd => Value::number(made.and_then(|made| made.cost).map(Usd)),
        Detail::Attempts => Value::number(Some(made.map_or(0, |made| made.attempts))),
        Detail::ErrorClass => Value::text(state.class().map(FailureClass::as_str)),
        Detail::Error => text(made.and_then(|made| made.error.as_ref())),
        Detail::AnsweredAt => made
            .and_then(|made| made.answered_at)
            .map_or(Value::Missing, |at| Value::Text(Cow::Owned(moment(at)))),
        Detail::Fingerprint => made
            .and_then(|made| made.fingerprint)
            .map_or(Value::Missing, |print| Value::Text(Cow::Owned(print.to_string()))),
    }
}

/// Dollars in full, as a JSON number.
pub(super) struct Usd(pub(super) NanoUsd);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.0;
        let sign = if nanos < 0 { "-" } else { "" };
        let (whole, rest) =
            (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
        let digits = format!("{rest:09}");
        match digits.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            digits => write!(f, "{sign}{whole}.{digits}"),
        }
    }
}

/// Returns a moment as RFC 3339 in UTC, to the millisecond.
fn moment(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| format!("{at:.3}"))
}
