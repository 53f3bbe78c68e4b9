//! Whether a schema fits the subset of JSON Schema that OpenAI's strict mode takes.
//!
//! A schema outside of it, sent with `strict: true`, is refused with 400 for every row; inside of
//! it, strict mode makes an invalid answer impossible. So doubt counts as no: without strict mode
//! the answer is still asked for by schema and still checked here. The subset is the one of
//! OpenAI's guide to structured outputs, "Supported schemas".

use serde_json::{Map, Value};

/// Says whether `schema` may be sent with `strict: true`.
pub fn strict_ready(schema: &Value) -> bool {
    let mut size = Size::default();
    let top = schema.as_object();
    top.is_some_and(|top| {
        top.get("type").and_then(Value::as_str) == Some("object") && !top.contains_key("anyOf")
    }) && node_ready(schema, 0, &mut size)
        && size.fits()
}

const MAX_DEPTH: usize = 10;

/// What the guide limits over the whole schema.
#[derive(Default)]
struct Size {
    properties: usize,
    enum_values: usize,
    /// Characters in names of properties and definitions and in values of `enum` and `const`.
    chars: usize,
}

impl Size {
    fn fits(&self) -> bool {
        self.properties <= 5000 && self.enum_values <= 1000 && self.chars <= 120_000
    }
}

const KEYWORDS: [&str; 23] = [
    "type",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
    "$schema",
    "title",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "pattern",
    "format",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
];

const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

fn node_ready(schema: &Value, depth: usize, size: &mut Size) -> bool {
    let Some(node) = schema.as_object() else { return false };
    if depth > MAX_DEPTH {
        return false;
    }
    // A reference takes no other keyword beside it.
    if let Some(reference) = node.get("$ref") {
        return node.len() == 1 && reference.as_str().is_some_and(|to| to.starts_with('#'));
    }
    node.keys().all(|key| KEYWORDS.contains(&key.as_str()))
        && (node.contains_key("type") || node.contains_key("anyOf"))
        && strings_ready(node)
        && values_ready(node, size)
        && types_ready(node, depth, size)
        && parts_ready(node, depth, size)
}

fn strings_ready(node: &Map<String, Value>) -> bool {
    let format = node
        .get("format")
        .is_none_or(|format| format.as_str().is_some_and(|format| FORMATS.contains(&format)));
    // Look-around and the like start so.
    let pattern = node
        .get("pattern")
        .is_none_or(|pattern| pattern.as_str().is_some_and(|pattern| !pattern.contains("(?")));
    format && pattern
}

fn values_ready(node: &Map<String, Value>, size: &mut Size) -> bool {
    let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    size.chars += node.get("const").map_or(0, length);
    let Some(values) = node.get("enum") else { return true };
    let Some(values) = values.as_array() else { return false };
    let chars: usize = values.iter().map(length).sum();
    size.enum_values += values.len();
    size.chars += chars;
    values.len() <= 250 || chars <= 15_000
}

fn types_ready(node: &Map<String, Value>, depth: usize, size: &mut Size) -> bool {
    let types: Vec<&str> = match node.get("type") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(_) => return false,
    };
    let object = !types.contains(&"object") || object_ready(node, depth, size);
    let array = !types.contains(&"array")
        || node.get("items").is_some_and(|items| node_ready(items, depth, size));
    object && array
}

fn object_ready(node: &Map<String, Value>, depth: usize, size: &mut Size) -> bool {
    let Some(properties) = node.get("properties").and_then(Value::as_object) else { return false };
    let required: Vec<&str> = match node.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    size.properties += properties.len();
    size.chars += properties.keys().map(|name| name.chars().count()).sum::<usize>();
    node.get("additionalProperties") == Some(&Value::Bool(false))
        && required.iter().all(|name| properties.contains_key(*name))
        && properties.keys().all(|name| required.contains(&name.as_str()))
        && properties.values().all(|property| node_ready(property, depth + 1, size))
}

fn parts_ready(node: &Map<String, Value>, depth: usize, size: &mut Size) -> bool {
    let mut ready = true;
    if let Some(any) = node.get("anyOf") {
        ready &=
            any.as_array().is_some_and(|any| any.iter().all(|part| node_ready(part, depth, size)));
    }
    for definitions in ["$defs", "definitions"].iter().filter_map(|key| node.get(*key)) {
        ready &= definitions.as_object().is_some_and(|definitions| {
            size.chars += definitions.keys().map(|name| name.chars().count()).sum::<usize>();
            definitions.values().all(|part| node_ready(part, depth, size))
        });
    }
    ready
}
