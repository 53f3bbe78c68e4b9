//! JSON Lines: one object a line, the row's own members first and as they came.
//!
//! A row has the columns of its own source and no others; ours are on every line, null where there
//! is nothing.

use std::io::{self, BufWriter, Write};

use super::table::{ExportError, Line};
use super::value::Value;

/// Writes JSON Lines.
pub(super) struct JsonLines<W: Write> {
    out: BufWriter<W>,
    line: Vec<u8>,
}

impl<W: Write> JsonLines<W> {
    pub(super) fn start(out: W) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, out), line: Vec::new() }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: &Line<'_>) -> Result<(), ExportError> {
        self.line.clear();
        self.line.push(b'{');
        push_json(&mut self.line, line.members()?);
        for (name, value) in line.outputs() {
            if self.line.len() > 1 {
                self.line.push(b',');
            }
            push_text(&mut self.line, name)?;
            self.line.push(b':');
            match value {
                Value::Missing => self.line.extend_from_slice(b"null"),
                Value::Text(text) => push_text(&mut self.line, &text)?,
                Value::Json(json) => push_json(&mut self.line, &json),
            }
        }
        self.line.extend_from_slice(b"}\n");
        self.out.write_all(&self.line)?;
        Ok(())
    }

    /// Hands back what was written to, with everything in it.
    pub(super) fn finish(self) -> io::Result<W> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

/// Appends JSON text on one line: a line end in it can only stand between tokens.
fn push_json(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}
