//! A row's cells as values that a template can use.
//!
//! The engine's own JSON would sort keys, round numbers and print Python; a table's cells keep
//! their order, their digits and print as JSON. Nothing here may put a cell's content into an
//! error.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, ValueKind};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep lists and objects may stand in each other: the limit of the JSON reader as well.
pub(super) const MAX_DEPTH: usize = 128;

/// One cell, or a part of one.
#[derive(Clone)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    /// A number as it is written.
    Number(Arc<str>),
    Text(Arc<str>),
    List(Arc<List>),
    Map(Arc<Map>),
}

/// A JSON array.
pub(super) struct List(Vec<Cell>);

/// A JSON object whose keys keep their order.
pub(super) struct Map {
    entries: Vec<(Arc<str>, Cell)>,
    places: HashMap<Arc<str>, usize>,
}

/// Why a text is no row's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCells {
    NotAnObject,
    TooDeep,
}

impl Map {
    /// Reads the cells of a row. A number for which `as_written` holds becomes its own text.
    pub(super) fn parse_row(
        json: &str,
        as_written: impl Fn(&str) -> bool,
    ) -> Result<Self, BadCells> {
        let Entries(raw) = serde_json::from_str(json).map_err(|_| BadCells::NotAnObject)?;
        let mut entries = Vec::with_capacity(raw.len());
        for (key, raw) in raw {
            let cell = match Cell::parse(raw, 1)? {
                Cell::Number(text) if as_written(&key) => Cell::Text(text),
                cell => cell,
            };
            entries.push((Arc::from(key), cell));
        }
        Ok(Self::new(entries))
    }

    /// Returns the value under `key`; of several the last, as JSON readers do.
    pub(super) fn get(&self, key: &str) -> Option<Value> {
        self.places.get(key).map(|place| self.entries[*place].1.value())
    }

    /// Says whether text stands under `key`.
    pub(super) fn holds_text(&self, key: &str) -> bool {
        let place = self.places.get(key);
        place.is_some_and(|place| matches!(self.entries[*place].1, Cell::Text(_)))
    }

    fn new(entries: Vec<(Arc<str>, Cell)>) -> Self {
        let mut map = Self { entries: Vec::with_capacity(entries.len()), places: HashMap::new() };
        for (key, cell) in entries {
            if let Some(place) = map.places.get(&key) {
                map.entries[*place].1 = cell;
            } else {
                map.places.insert(Arc::clone(&key), map.entries.len());
                map.entries.push((key, cell));
            }
        }
        map
    }
}

impl Cell {
    fn parse(raw: &RawValue, depth: usize) -> Result<Self, BadCells> {
        if depth > MAX_DEPTH {
            return Err(BadCells::TooDeep);
        }
        let text = raw.get();
        let bad = |_| BadCells::NotAnObject;
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let Entries(raw) = serde_json::from_str(text).map_err(bad)?;
                let entries = raw
                    .into_iter()
                    .map(|(key, raw)| Ok((Arc::from(key), Self::parse(raw, depth + 1)?)))
                    .collect::<Result<_, _>>()?;
                Self::Map(Arc::new(Map::new(entries)))
            }
            Some(b'[') => {
                let raw: Vec<&RawValue> = serde_json::from_str(text).map_err(bad)?;
                let cells = raw.into_iter().map(|raw| Self::parse(raw, depth + 1));
                Self::List(Arc::new(List(cells.collect::<Result<_, _>>()?)))
            }
            Some(b'"') => {
                let text: String = serde_json::from_str(text).map_err(bad)?;
                Self::Text(text.into())
            }
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') => Self::Null,
            _ => Self::Number(text.into()),
        })
    }

    /// Returns what a template works with.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Null => Value::from(()),
            Self::Bool(yes) => Value::from(*yes),
            Self::Number(text) => number(text),
            Self::Text(text) => Value::from(Arc::clone(text)),
            Self::List(list) => Value::from_dyn_object(Arc::clone(list)),
            Self::Map(map) => Value::from_dyn_object(Arc::clone(map)),
        }
    }

    /// Takes a template's value; `None` if it is nested too deep, has no form in JSON or more than `parts` parts,
    /// which are counted down to zero.
    pub(super) fn from_value(value: &Value, depth: usize, parts: &mut u64) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        *parts = parts.checked_sub(1)?;
        if let Some(list) = value.downcast_object::<List>() {
            return Some(Self::List(list));
        }
        if let Some(map) = value.downcast_object::<Map>() {
            return Some(Self::Map(map));
        }
        Some(match value.kind() {
            ValueKind::Undefined | ValueKind::None => Self::Null,
            ValueKind::Bool => Self::Bool(value.is_true()),
            ValueKind::Number => {
                let finite = f64::try_from(value.clone()).map_or(true, f64::is_finite);
                if finite { Self::Number(value.to_string().into()) } else { Self::Null }
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().ok()?;
                let cells = items.map(|item| Self::from_value(&item, depth + 1, parts));
                Self::List(Arc::new(List(cells.collect::<Option<_>>()?)))
            }
            ValueKind::Map => {
                let keys = value.try_iter().ok()?;
                let entries = keys.map(|key| {
                    let cell = Self::from_value(&value.get_item(&key).ok()?, depth + 1, parts)?;
                    Some((Arc::from(key.to_string()), cell))
                });
                Self::Map(Arc::new(Map::new(entries.collect::<Option<_>>()?)))
            }
            _ => Self::Text(value.to_string().into()),
        })
    }

    /// Returns JSON, compact or with `indent` spaces a level; `None` if it is longer than about `room` bytes.
    pub(super) fn to_json(&self, indent: Option<usize>, room: usize) -> Option<String> {
        let mut out = String::new();
        let mut writer = Writer { out: &mut out, indent, level: 0, room };
        writer.cell(self);
        (out.len() <= room).then_some(out)
    }

    /// Writes compact JSON.
    fn write(&self, out: &mut String) {
        Writer { out, indent: None, level: 0, room: usize::MAX }.cell(self);
    }
}

struct Writer<'o> {
    out: &'o mut String,
    indent: Option<usize>,
    level: usize,
    /// Beyond so many bytes nothing more is written.
    room: usize,
}

impl Writer<'_> {
    fn cell(&mut self, cell: &Cell) {
        if self.out.len() > self.room {
            return;
        }
        match cell {
            Cell::Null => self.out.push_str("null"),
            Cell::Bool(yes) => self.out.push_str(if *yes { "true" } else { "false" }),
            Cell::Number(text) => self.out.push_str(text),
            Cell::Text(text) => self.text(text),
            Cell::List(list) => self.items(('[', ']'), &list.0, Self::cell),
            Cell::Map(map) => self.items(('{', '}'), &map.entries, |writer, (key, cell)| {
                writer.text(key);
                writer.out.push_str(if writer.indent.is_some() { ": " } else { ":" });
                writer.cell(cell);
            }),
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }

    fn items<T>(&mut self, (open, close): (char, char), items: &[T], write: fn(&mut Self, &T)) {
        self.out.push(open);
        self.level += 1;
        for (index, item) in items.iter().enumerate() {
            if self.out.len() > self.room {
                return;
            }
            if index > 0 {
                self.out.push(',');
            }
            self.break_line();
            write(self, item);
        }
        self.level -= 1;
        if !items.is_empty() {
            self.break_line();
        }
        self.out.push(close);
    }

    fn break_line(&mut self) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * self.level));
        }
    }
}

/// Returns a number to compare and compute with: an integer of up to 128 bits, else a float; what
/// no float can hold stays text.
fn number(text: &Arc<str>) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        Value::from(whole)
    } else if let Ok(whole) = text.parse::<i128>() {
        Value::from(whole)
    } else {
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Value::from(float),
            _ => Value::from(Arc::clone(text)),
        }
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).map(Cell::value)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        Cell::List(Arc::clone(self)).write(&mut out);
        f.write_str(&out)
    }
}

impl Object for Map {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.get(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_rev_enumerator(|map| {
            Box::new(map.entries.iter().map(|(key, _)| Value::from(Arc::clone(key))))
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        Cell::Map(Arc::clone(self)).write(&mut out);
        f.write_str(&out)
    }
}

/// Without contents: cells are people's data.
impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({})", self.0.len())
    }
}

/// Without contents: cells are people's data.
impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({})", self.entries.len())
    }
}

/// The keys of one JSON object with the text of their values.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Reader).map(Entries)
    }
}
