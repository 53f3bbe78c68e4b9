//! The demands of structured outputs on a schema, as OpenAI's guide states them.
//!
//! With `strict: true` every object must forbid other properties and require all of its own, and
//! only a part of JSON Schema is allowed; limits are ten levels of objects and 5,000 properties.
//! Without `strict` the schema is a hint, and only its outermost type is looked at.

use serde_json::{Map, Value};

use crate::simulate::reply::Problem;

const DEEPEST: usize = 10;
const MOST_PROPERTIES: usize = 5_000;
const NOT_ALLOWED: [&str; 11] = [
    "allOf",
    "not",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "then",
    "else",
    "oneOf",
    "patternProperties",
    "unevaluatedProperties",
    "propertyNames",
];

/// Where a schema stands in a body, and what it is called there.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// `response_format` or `text.format.schema`.
    pub(super) param: &'a str,
    /// The schema's name.
    pub(super) name: &'a str,
}

/// Checks a schema that an answer must fit.
pub(super) fn check(schema: &Value, strict: bool, place: Place<'_>) -> Result<(), Problem> {
    let told = |complaint: String| {
        let message = format!("Invalid schema for response_format '{}': {complaint}", place.name);
        Problem::invalid(place.param, "invalid_json_schema", message)
    };
    let outermost = schema.get("type").and_then(Value::as_str);
    if outermost != Some("object") && (strict || outermost.is_some()) {
        let got = outermost.map_or("'type: None'".to_owned(), |name| format!("'type: \"{name}\"'"));
        return Err(told(format!(
            "schema must be a JSON Schema of 'type: \"object\"', got {got}."
        )));
    }
    if !strict {
        return Ok(());
    }
    let mut walk = Walk { root: schema, context: Vec::new(), properties: 0, objects: 0 };
    walk.visit(schema).map_err(told)
}

struct Walk<'a> {
    root: &'a Value,
    context: Vec<String>,
    properties: usize,
    objects: usize,
}

impl Walk<'_> {
    fn visit(&mut self, schema: &Value) -> Result<(), String> {
        let Value::Object(schema) = schema else {
            return Err(self.told("a schema must be an object."));
        };
        if let Some(keyword) = NOT_ALLOWED.iter().find(|keyword| schema.contains_key(**keyword)) {
            return Err(self.told(&format!("'{keyword}' is not permitted.")));
        }
        self.check_reference(schema)?;
        let is_object = names_type(schema, "object") || schema.contains_key("properties");
        if is_object {
            self.check_object(schema)?;
        }
        if names_type(schema, "array") && !schema.contains_key("items") {
            return Err(self.told("array schema missing items."));
        }
        self.objects += usize::from(is_object);
        if self.objects > DEEPEST {
            return Err(self.told("schema exceeds the limit of 10 levels of nesting."));
        }
        self.visit_parts(schema)?;
        self.objects -= usize::from(is_object);
        Ok(())
    }

    fn visit_parts(&mut self, schema: &Map<String, Value>) -> Result<(), String> {
        for keyword in ["properties", "$defs", "definitions"] {
            if let Some(Value::Object(parts)) = schema.get(keyword) {
                for (name, part) in parts {
                    self.visit_at(&[keyword, name], part)?;
                }
            }
        }
        for keyword in ["anyOf", "prefixItems"] {
            if let Some(Value::Array(parts)) = schema.get(keyword) {
                for (index, part) in parts.iter().enumerate() {
                    self.visit_at(&[keyword, &index.to_string()], part)?;
                }
            }
        }
        match schema.get("items") {
            Some(items @ Value::Object(_)) => self.visit_at(&["items"], items),
            _ => Ok(()),
        }
    }

    fn visit_at(&mut self, steps: &[&str], part: &Value) -> Result<(), String> {
        self.context.extend(steps.iter().map(|step| (*step).to_owned()));
        self.visit(part)?;
        self.context.truncate(self.context.len() - steps.len());
        Ok(())
    }

    fn check_object(&mut self, schema: &Map<String, Value>) -> Result<(), String> {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err(
                self.told("'additionalProperties' is required to be supplied and to be false.")
            );
        }
        let Some(Value::Object(properties)) = schema.get("properties") else { return Ok(()) };
        self.properties += properties.len();
        if self.properties > MOST_PROPERTIES {
            return Err(self.told("schema exceeds the limit of 5000 properties."));
        }
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| {
            required.is_some_and(|names| names.iter().any(|required| required == name))
        };
        match properties.keys().find(|name| !is_required(name)) {
            None => Ok(()),
            Some(name) => Err(self.told(&format!(
                "'required' is required to be supplied and to be an array including every key in \
                 properties. Missing '{name}'."
            ))),
        }
    }

    fn check_reference(&self, schema: &Map<String, Value>) -> Result<(), String> {
        let Some(target) = schema.get("$ref") else { return Ok(()) };
        let pointer = target.as_str().and_then(|target| target.strip_prefix('#'));
        match pointer.and_then(|pointer| self.root.pointer(pointer)) {
            Some(_) => Ok(()),
            None => Err(self.told("reference to a component that was not found in the schema.")),
        }
    }

    fn told(&self, complaint: &str) -> String {
        let steps: Vec<_> = self.context.iter().map(|step| format!("'{step}'")).collect();
        let comma = if steps.len() == 1 { "," } else { "" };
        format!("In context=({}{comma}), {complaint}", steps.join(", "))
    }
}

fn names_type(schema: &Map<String, Value>, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|one| one == name),
        _ => false,
    }
}
