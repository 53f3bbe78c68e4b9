//! Where the records and fields of a delimited text begin and end.
//!
//! It finds places and copies nothing. It stops wherever the text in memory stops and goes on from
//! there, so that a record of any size is looked at once. RFC 4180, with what the `csv` crate
//! forgives forgiven in the same way: quotes inside a field that does not start with one are text,
//! and text after a closing quote belongs to the field. Two things it does not forgive, because they
//! swallow rows in silence: a quote that never closes, and text after the closing quote of a cell
//! that runs over several lines.
//!
//! ```text
//! Blank ─▶ FieldStart ─▶ Plain ──────────────▶ FieldStart | record
//!               └─────▶ Quoted ⇄ AfterQuote ─▶ FieldStart | record | Plain
//! ```

use std::borrow::Cow;

use super::encoding::Ahead;

/// More fields than this are counted and not remembered.
pub(super) const MAX_FIELDS: usize = 100_000;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Nothing whole: the text must grow first.
    NeedsMore,
    /// A record, which ends `length` bytes into the text.
    Record { length: usize },
    /// The end of the text, with no record before it.
    End,
    /// The end of the text, inside the quotes that opened on that line.
    Unclosed { opened: u64 },
    /// Text after the closing quote of a cell that began on an earlier line.
    Stray { line: u64, opened: u64 },
}

/// Where a field lies in the text of its record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    start: usize,
    end: usize,
    /// The closing quote, if the field starts with a quote.
    close: Option<usize>,
    /// Whether there are doubled quotes between the quotes.
    doubled: bool,
}

impl Field {
    /// Returns what the field says, without its quotes.
    pub(super) fn cell<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(close) = self.close else { return Cow::Borrowed(&text[self.start..self.end]) };
        let quoted = &text[self.start + 1..close];
        let after = &text[close + 1..self.end];
        let mut cell = Cow::Borrowed(quoted);
        if self.doubled {
            cell = Cow::Owned(quoted.replace("\"\"", "\""));
        }
        if !after.is_empty() {
            cell.to_mut().push_str(after);
        }
        cell
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Blank,
    FieldStart,
    Plain,
    Quoted,
    AfterQuote,
    /// A record was handed out; the next call starts on the text after it.
    Done,
}

/// A place in a delimited text.
pub(super) struct Scanner {
    delimiter: u8,
    /// The bytes that end a plain field.
    ends_plain: [bool; 256],
    state: State,
    /// How far the text was looked at.
    at: usize,
    /// The line at that place.
    line: u64,
    /// Whether the byte before the text was a carriage return.
    after_return: bool,
    record_line: u64,
    quote_line: u64,
    field: Field,
    fields: Vec<Field>,
    count: usize,
}

impl Scanner {
    /// Starts on a text whose first line has that number.
    pub(super) fn new(delimiter: u8, line: u64) -> Self {
        let mut ends_plain = [false; 256];
        for byte in [delimiter, b'\n', b'\r'] {
            ends_plain[usize::from(byte)] = true;
        }
        Self {
            delimiter,
            ends_plain,
            state: State::Blank,
            at: 0,
            line,
            after_return: false,
            record_line: line,
            quote_line: line,
            field: NO_FIELD,
            fields: Vec::new(),
            count: 0,
        }
    }

    /// Returns the delimiter.
    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Returns the line up to which the text was looked at.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Returns the line on which the last record started.
    pub(super) fn record_line(&self) -> u64 {
        self.record_line
    }

    /// Returns the fields of the last record, the first [`MAX_FIELDS`] of them.
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns how many fields the last record has.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns how many bytes at the start of the text belong to no record; they must be consumed
    /// before the next call.
    pub(super) fn take_blank(&mut self) -> usize {
        if self.state == State::Blank { std::mem::take(&mut self.at) } else { 0 }
    }

    /// Looks for the next record in `text`, which starts where the last one ended.
    pub(super) fn scan(&mut self, text: &str, ahead: Ahead) -> Scan {
        let bytes = text.as_bytes();
        loop {
            let found = match self.state {
                State::Done => self.start_over(),
                State::Blank => self.skip_blank(bytes),
                State::FieldStart => self.start_field(bytes),
                State::Plain => self.scan_plain(bytes),
                State::Quoted => self.scan_quoted(bytes),
                State::AfterQuote => self.after_quote(bytes),
            };
            match found {
                Step::On => {}
                Step::OutOfText if ahead == Ahead::More => return Scan::NeedsMore,
                Step::OutOfText => return self.last_record(text),
                Step::RecordEnd => return self.checked(text),
            }
        }
    }

    fn start_over(&mut self) -> Step {
        self.state = State::Blank;
        self.at = 0;
        self.fields.clear();
        self.count = 0;
        Step::On
    }

    fn skip_blank(&mut self, bytes: &[u8]) -> Step {
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\n' => {
                    self.line += u64::from(!self.after_return);
                    self.after_return = false;
                }
                b'\r' => {
                    self.line += 1;
                    self.after_return = true;
                }
                _ => {
                    self.after_return = false;
                    self.record_line = self.line;
                    self.state = State::FieldStart;
                    return Step::On;
                }
            }
            self.at += 1;
        }
        Step::OutOfText
    }

    fn start_field(&mut self, bytes: &[u8]) -> Step {
        self.field = Field { start: self.at, ..NO_FIELD };
        match bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                self.quote_line = self.line;
                self.state = State::Quoted;
                Step::On
            }
            Some(_) => {
                self.state = State::Plain;
                Step::On
            }
            None => Step::OutOfText,
        }
    }

    fn scan_plain(&mut self, bytes: &[u8]) -> Step {
        let ahead = &bytes[self.at..];
        match ahead.iter().position(|&byte| self.ends_plain[usize::from(byte)]) {
            None => {
                self.at = bytes.len();
                Step::OutOfText
            }
            Some(length) => {
                self.at += length;
                self.end_field(bytes[self.at])
            }
        }
    }

    fn scan_quoted(&mut self, bytes: &[u8]) -> Step {
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => {
                    self.field.close = Some(self.at - 1);
                    self.state = State::AfterQuote;
                    return Step::On;
                }
                // The byte before is in the record, since the record starts with a quote at least.
                b'\n' if bytes[self.at - 2] == b'\r' => {}
                b'\n' | b'\r' => self.line += 1,
                _ => {}
            }
        }
        Step::OutOfText
    }

    fn after_quote(&mut self, bytes: &[u8]) -> Step {
        match bytes.get(self.at) {
            None => Step::OutOfText,
            Some(b'"') => {
                self.at += 1;
                self.field.doubled = true;
                self.state = State::Quoted;
                Step::On
            }
            Some(&byte) if self.ends_plain[usize::from(byte)] => self.end_field(byte),
            Some(_) => {
                self.state = State::Plain;
                Step::On
            }
        }
    }

    /// Ends a field at the byte that ends it, which is consumed.
    fn end_field(&mut self, by: u8) -> Step {
        self.push_field();
        self.at += 1;
        if by == self.delimiter {
            self.state = State::FieldStart;
            return Step::On;
        }
        self.line += 1;
        self.after_return = by == b'\r';
        self.state = State::Done;
        Step::RecordEnd
    }

    fn push_field(&mut self) {
        self.field.end = self.at;
        if self.fields.len() < MAX_FIELDS {
            self.fields.push(self.field);
        }
        self.count += 1;
    }

    fn last_record(&mut self, text: &str) -> Scan {
        match self.state {
            State::Done | State::Blank => Scan::End,
            State::Quoted => Scan::Unclosed { opened: self.quote_line },
            State::FieldStart | State::Plain | State::AfterQuote => {
                self.push_field();
                self.state = State::Done;
                self.checked(text)
            }
        }
    }

    /// Hands a record out unless a quote in it is one that swallows lines.
    fn checked(&self, text: &str) -> Scan {
        let stray = |field: &&Field| {
            field.close.is_some_and(|close| {
                !text[close + 1..field.end].trim_ascii().is_empty()
                    && text[field.start..close].contains(['\n', '\r'])
            })
        };
        match self.fields.iter().find(stray) {
            None => Scan::Record { length: self.at },
            Some(field) => {
                let opened = self.record_line + breaks(&text[..field.start]);
                let line = opened + field.close.map_or(0, |c| breaks(&text[field.start..c]));
                Scan::Stray { line, opened }
            }
        }
    }
}

const NO_FIELD: Field = Field { start: 0, end: 0, close: None, doubled: false };

enum Step {
    On,
    OutOfText,
    RecordEnd,
}

/// Counts line ends: `\n`, `\r\n` or a `\r` alone.
fn breaks(text: &str) -> u64 {
    let mut previous = 0;
    let mut count = 0;
    for byte in text.bytes() {
        count += u64::from(byte == b'\r' || (byte == b'\n' && previous != b'\r'));
        previous = byte;
    }
    count
}
