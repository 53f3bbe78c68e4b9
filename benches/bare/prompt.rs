//! The request bodies: the same bytes as the program's, for a prompt with one cell in it.

use serde::Serialize;

use crate::args::Args;

/// A prompt, cut where its cell goes.
#[derive(Clone)]
pub(crate) struct Prompt {
    model: String,
    head: String,
    tail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: [Message<'a>; 1],
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

const CELL: &str = "{{ review }}";

impl Prompt {
    /// Reads the file behind `--prompt`.
    pub(crate) fn of(args: &Args) -> Self {
        let text = match args.text("prompt") {
            Some(path) => std::fs::read_to_string(path).unwrap(),
            None => format!("Is this review positive, negative or mixed? {CELL}"),
        };
        let (head, tail) = text.split_once(CELL).unwrap();
        let model = args.text("model").unwrap_or("gpt-4o-mini").to_owned();
        Self { model, head: head.to_owned(), tail: tail.trim_end().to_owned() }
    }

    /// Returns the body for one row.
    pub(crate) fn body(&self, review: &str) -> Vec<u8> {
        let mut content = String::with_capacity(self.head.len() + review.len() + self.tail.len());
        content.push_str(&self.head);
        content.push_str(review);
        content.push_str(&self.tail);
        let messages = [Message { role: "user", content: &content }];
        serde_json::to_vec(&Body { model: &self.model, messages }).unwrap()
    }
}

/// The texts of a table, one after another.
pub(crate) struct Reviews {
    table: csv::Reader<std::fs::File>,
    column: usize,
    record: csv::StringRecord,
    row: i64,
    limit: i64,
}

impl Reviews {
    pub(crate) fn open(path: &str, limit: i64) -> Self {
        let mut table = csv::Reader::from_path(path).unwrap();
        let column = table.headers().unwrap().iter().position(|name| name == "review").unwrap();
        Self { table, column, record: csv::StringRecord::new(), row: 0, limit }
    }
}

impl Iterator for Reviews {
    type Item = (i64, String);

    fn next(&mut self) -> Option<Self::Item> {
        if self.row == self.limit || !self.table.read_record(&mut self.record).unwrap() {
            return None;
        }
        self.row += 1;
        Some((self.row, self.record[self.column].to_owned()))
    }
}
