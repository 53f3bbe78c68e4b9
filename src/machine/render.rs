//! Puts a row into a prompt's templates: rendering `r1`.
//!
//! Rendering decides the bytes of a request and so its fingerprint, whose tag names the version of
//! what is written here (see [`crate::domain::Fingerprint::TAG`]). An old tag's rendering never
//! changes: a change to anything below that alters one byte of some message is a new version, and
//! the golden tests hold the bytes of this one. The rules of `r1`:
//!
//! * A template is Jinja as the engine has it, without `include`, `import`, `extends` and macros,
//!   without `namespace` and `debug`, and with every white space kept as it is written.
//! * Each column whose name is an identifier is a variable. `row` is always the whole row, also
//!   where a column is named `row`; that column is `row.row`.
//! * A string comes out verbatim, nothing is escaped; null comes out empty; booleans, lists and
//!   objects come out as compact JSON with keys in the table's order, as `tojson` gives them.
//! * A number cell that the prompt only prints (`{{ price }}`, `{{ row['price'] }}`) comes out as
//!   it is written in the table. One that the prompt compares or computes with anywhere is a
//!   number there: exact up to 128 bits if whole, else a float, printed in its shortest form.
//! * A text cell that is put in order with a literal number (`score > 3`, where the table came from
//!   a CSV file) is an error: the engine would hold every text above every number.
//! * A name that is neither a cell nor defined by the template is an error, never an empty text.
//!
//! Nothing here reads a file, a clock or chance. Work, output and depth are bounded, and no error
//! holds the content of a cell.

mod cells;
mod error;
mod growth;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;

use minijinja::value::{Kwargs, Object, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior};

use self::cells::{BadCells, Cell, Map};
pub use self::error::{Place, RenderError, UnknownColumn, UnknownColumns};
use self::growth::Growth;
use self::scan::Scan;
use crate::domain::{Message, PromptSpec, Role};
use crate::machine::closest::closest;

/// What one render may cost: roughly instructions, plus one for each 64 bytes that are touched.
const FUEL: u64 = 4_000_000;

/// How many parts of a value may be turned into JSON for one of them, so that the longest message can be one list of
/// digits.
const PARTS_A_FUEL: u64 = 32;

/// How many bytes may be written for one of them, as the engine has it.
const BYTES_A_FUEL: u64 = 64;

/// How long one message may become, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// What a value may come to that the template puts together out of cells, in bytes of these. A template that puts
/// nothing together has this room for a row, which is more than a row has.
const MAX_GROWN_BYTES: u64 = 1 << 30;

/// The name under which a template finds all cells of its row.
const ROW: &str = "row";

/// A prompt's messages, ready to take rows.
#[derive(Debug)]
pub struct Template {
    engine: Environment<'static>,
    messages: Vec<Compiled>,
    columns: BTreeSet<String>,
    optional: BTreeSet<String>,
    /// Columns that are not only printed; `None` stands for all.
    computed: Option<BTreeSet<String>>,
    /// Columns that are put in order with a literal number.
    ordered: BTreeSet<String>,
    /// The most parts of a value that the templates put together, a cell counting as one.
    growth: u64,
}

#[derive(Debug)]
struct Compiled {
    role: Role,
    /// The template's name in the engine.
    name: String,
    /// Where its first line stands.
    start: Place,
}

impl Template {
    /// Compiles a prompt's messages; fails on syntax and on filters and tests that do not exist.
    pub fn compile(prompt: &PromptSpec) -> Result<Self, RenderError> {
        let mut engine = engine();
        let mut scan = Scan::default();
        let mut growth = Growth::default();
        let mut messages = Vec::new();
        for (message, start) in prompt.messages.iter().zip(Place::of_messages(prompt)) {
            let name = format!("message {}", messages.len() + 1);
            engine
                .add_template_owned(name.clone(), message.template.clone())
                .map_err(|error| error::syntax(&error, start, &message.template))?;
            let (filters, tests) = (scan.filters.len(), scan.tests.len());
            scan.add(&message.template);
            growth.add(&message.template);
            let names = (&scan.filters[filters..], &scan.tests[tests..]);
            check_names(&engine, names, |byte| start.at_byte(&message.template, byte))?;
            messages.push(Compiled { role: message.role, name, start });
        }
        let columns = columns(&engine, &scan);
        let ordered = scan.ordered.difference(&scan.typed).cloned().collect();
        let computed = (!scan.whole_row).then_some(scan.computed);
        let growth = growth.most();
        Ok(Self { engine, messages, columns, optional: scan.optional, computed, ordered, growth })
    }

    /// Returns the columns that the templates name, optional ones included.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    /// Returns the columns without which every row would fail.
    ///
    /// A name that stands before `is defined` or `|default(…)` (or in `'name' in row`) in any one
    /// place is optional in all places.
    pub fn required_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.difference(&self.optional).map(String::as_str)
    }

    /// Refuses names that are no column of the table.
    pub fn check_columns(&self, columns: &[String]) -> Result<(), UnknownColumns> {
        let known: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
        let unknown: Vec<UnknownColumn> = self
            .required_columns()
            .filter(|name| !known.contains(name))
            .map(|name| UnknownColumn {
                name: name.to_owned(),
                suggestion: closest(name, columns.iter().map(String::as_str)).map(str::to_owned),
            })
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(UnknownColumns { unknown, columns: columns.to_vec() })
    }

    /// Renders the messages for a row, whose cells are the text of one JSON object.
    pub fn render(&self, cells_json: &str) -> Result<Vec<Message>, RenderError> {
        let as_written =
            |name: &str| self.computed.as_ref().is_some_and(|computed| !computed.contains(name));
        let row = Map::parse_row(cells_json, as_written).map_err(|bad| match bad {
            BadCells::NotAnObject => RenderError::BadCells,
            BadCells::TooDeep => RenderError::TooDeep { limit: cells::MAX_DEPTH },
        })?;
        if let Some(column) = self.ordered.iter().find(|column| row.holds_text(column)) {
            return Err(RenderError::TextInOrder { column: column.clone() });
        }
        if self.growth.saturating_mul(cells_json.len().max(64) as u64) > MAX_GROWN_BYTES {
            return Err(RenderError::TooMuchWork);
        }
        let context = Value::from_object(Context(row.into()));
        self.messages.iter().map(|message| self.render_message(message, &context)).collect()
    }

    fn render_message(&self, message: &Compiled, context: &Value) -> Result<Message, RenderError> {
        let failed = |error: &minijinja::Error| error::at_row(error, message.start);
        let template = self.engine.get_template(&message.name).map_err(|error| failed(&error))?;
        let mut out = Bounded { bytes: Vec::new(), full: false };
        match template.render_captured_to(context.clone(), &mut out) {
            Ok(_) => {}
            Err(_) if out.full => {
                return Err(RenderError::TooLong { limit_bytes: MAX_MESSAGE_BYTES });
            }
            Err(error) => return Err(failed(&error)),
        }
        let text = String::from_utf8(out.bytes).map_err(|_| RenderError::BadCells)?;
        Ok(Message { role: message.role, text })
    }
}

/// Says whether some user message of a rendered prompt holds nothing but white space.
pub fn is_blank(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.role == Role::User && message.text.trim().is_empty())
}

/// Makes the engine of `r1`.
fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    let syntax = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build();
    engine.set_syntax(syntax.unwrap_or_default());
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(200);
    // Tells which name is undefined; what else it collects stays in the engine's error.
    engine.set_debug(true);
    engine.set_formatter(print);
    engine.add_filter("tojson", tojson);
    // A namespace can nest a value in itself without bound, and dropping such a value overflows
    // the stack.
    engine.remove_global("namespace");
    engine.remove_global("debug");
    engine
}

/// Writes a value into a message.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::None => Ok(()),
        ValueKind::Bool | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let json = Value::from(json(state, value, None)?);
            minijinja::escape_formatter(out, state, &json)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// The filter `tojson`, without the engine's escapes for HTML.
fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    json(state, value, indent.map(|indent| indent.min(16)))
}

/// Returns a value as JSON, paid for from what is left for this render: the engine knows nothing of the work in here.
fn json(state: &State, value: &Value, indent: Option<usize>) -> Result<String, minijinja::Error> {
    let left = state.fuel_levels().map_or(FUEL, |(_, left)| left);
    let mut parts = left.saturating_mul(PARTS_A_FUEL);
    let before = parts;
    let cell = Cell::from_value(value, 0, &mut parts);
    state.consume_fuel((before - parts) / PARTS_A_FUEL)?;
    let cell = cell.ok_or_else(|| {
        minijinja::Error::new(ErrorKind::BadSerialization, "the value has no form in JSON")
    })?;
    let room = left.saturating_mul(BYTES_A_FUEL).try_into().unwrap_or(usize::MAX);
    let out = cell.to_json(indent, room).ok_or_else(|| ErrorKind::OutOfFuel.into());
    out.and_then(|out| state.consume_fuel(out.len() as u64 / BYTES_A_FUEL).map(|()| out))
}

/// Returns the columns that the templates of `engine` name.
fn columns(engine: &Environment<'_>, scan: &Scan) -> BTreeSet<String> {
    let functions: BTreeSet<&str> = engine.globals().map(|(name, _)| name).collect();
    let mut names: BTreeSet<String> = engine
        .templates()
        .flat_map(|(_, template)| template.undeclared_variables(false))
        .filter(|name| !functions.contains(name.as_str()) && !scan.assigned.contains(name))
        .collect();
    if names.remove(ROW) {
        names.extend(scan.row_columns.iter().cloned());
    }
    names
}

type Named = [(String, usize)];

/// Finds filters and tests that do not exist, which the engine would only notice at each row.
fn check_names(
    engine: &Environment<'_>,
    (filters, tests): (&Named, &Named),
    place: impl Fn(usize) -> Place,
) -> Result<(), RenderError> {
    let unknown = |what, (name, byte): &(String, usize)| RenderError::UnknownName {
        place: place(*byte),
        what,
        name: name.clone(),
    };
    let mut state = engine.empty_state();
    for filter in filters {
        let tried = state.apply_filter(&filter.0, &[]).map_err(|error| error.kind());
        if tried.is_err_and(|kind| kind == ErrorKind::UnknownFilter) {
            return Err(unknown("filter", filter));
        }
    }
    for test in tests {
        let tried = state.perform_test(&test.0, &[]).map_err(|error| error.kind());
        if tried.is_err_and(|kind| kind == ErrorKind::UnknownTest) {
            return Err(unknown("test", test));
        }
    }
    Ok(())
}

/// What names mean in a template: the columns, and `row`.
#[derive(Debug)]
struct Context(std::sync::Arc<Map>);

impl Object for Context {
    fn get_value(self: &std::sync::Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &std::sync::Arc<Self>, key: &str) -> Option<Value> {
        if key == ROW {
            return Some(Value::from_dyn_object(std::sync::Arc::clone(&self.0)));
        }
        self.0.get(key)
    }
}

/// Takes a message's bytes up to the limit.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_MESSAGE_BYTES {
            self.full = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
