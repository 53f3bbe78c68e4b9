//! Values that fit a JSON Schema, drawn at random from a seed.
//!
//! It understands what structured outputs allow (objects, arrays, enums, constants, bounds,
//! lengths, common formats, `anyOf`, `$defs`, recursion) and a little more. `pattern`, `not`,
//! `if` and `contains` are not looked at. Work is bounded whatever the schema asks for: below a
//! certain depth, and once a budget of values is used up, the smallest choice is made; a schema
//! that demands endless nesting gets `null` in the end, and so does not fit.

use fastrand::Rng;
use serde_json::{Map, Number, Value};

use super::answer::Language;

/// The depth from which on only what is required is made.
const LEAN_DEPTH: u32 = 5;
/// The depth at which nesting is broken off.
const LAST_DEPTH: u32 = 60;
/// How many values one answer may have before only what is required is made.
const BUDGET: u32 = 2_000;
/// How many values one answer may have at all.
const LAST_VALUE: u32 = 50_000;
/// The most characters or items that are made, even where a schema demands more.
const MOST: u64 = 20_000;

/// Makes a value that fits `schema`.
pub(super) fn fit(schema: &Value, language: Language, rng: &mut Rng) -> Value {
    Fitter { root: schema, language, rng, spent: 0 }.value(schema, 0)
}

struct Fitter<'a> {
    root: &'a Value,
    language: Language,
    rng: &'a mut Rng,
    spent: u32,
}

impl<'a> Fitter<'a> {
    fn value(&mut self, schema: &Value, depth: u32) -> Value {
        self.spent += 1;
        if depth > LAST_DEPTH || self.spent > LAST_VALUE {
            return Value::Null;
        }
        let Value::Object(schema) = schema else {
            return Value::String(self.language.words(self.rng));
        };
        let array = |keyword: &str| schema.get(keyword).and_then(Value::as_array);
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            self.resolve(target).map_or(Value::Null, |target| self.value(target, depth + 1))
        } else if let Some(constant) = schema.get("const") {
            constant.clone()
        } else if let Some(values) = array("enum") {
            self.one_of_enum(values, schema.get("type"))
        } else if let Some(parts) = array("allOf") {
            let rest = without(schema, "allOf");
            let merged = parts.iter().fold(rest, |merged, part| self.merge(merged, part));
            self.value(&Value::Object(merged), depth + 1)
        } else if let Some(branches) = array("anyOf") {
            self.one_of_branches(branches, without(schema, "anyOf"), depth)
        } else if let Some(branches) = array("oneOf") {
            self.one_of_branches(branches, without(schema, "oneOf"), depth)
        } else {
            self.typed(schema, depth)
        }
    }

    fn is_lean(&self, depth: u32) -> bool {
        depth >= LEAN_DEPTH || self.spent > BUDGET
    }

    fn one_of_enum(&mut self, values: &[Value], of_type: Option<&Value>) -> Value {
        let fitting: Vec<_> =
            values.iter().filter(|value| of_type.is_none_or(|types| is_of(value, types))).collect();
        self.rng.choice(fitting).cloned().unwrap_or(Value::Null)
    }

    fn one_of_branches(
        &mut self,
        branches: &[Value],
        rest: Map<String, Value>,
        depth: u32,
    ) -> Value {
        let branch = if self.is_lean(depth) {
            branches.iter().min_by_key(|branch| weight(branch))
        } else {
            self.rng.choice(branches)
        };
        let merged = match branch {
            Some(branch) => self.merge(rest, branch),
            None => rest,
        };
        self.value(&Value::Object(merged), depth + 1)
    }

    fn resolve(&self, target: &str) -> Option<&'a Value> {
        self.root.pointer(target.strip_prefix('#')?)
    }

    /// Joins two schemas that must both hold, as far as structured outputs ever need it.
    fn merge(&self, mut into: Map<String, Value>, part: &Value) -> Map<String, Value> {
        const NOTES: [&str; 4] = ["description", "title", "default", "$defs"];
        if into.keys().all(|key| NOTES.contains(&key.as_str())) {
            // Nothing to join: a reference stays one, so that its nesting is counted.
            return part.as_object().cloned().unwrap_or_default();
        }
        let target = part.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|target| self.resolve(target));
        let Some(part) = target.unwrap_or(part).as_object() else { return into };
        for (key, value) in part {
            match (into.get_mut(key), value) {
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
                (Some(Value::Array(old)), Value::Array(new)) if key == "required" => {
                    old.extend(new.iter().cloned());
                }
                _ => {
                    into.insert(key.clone(), value.clone());
                }
            }
        }
        into
    }

    fn typed(&mut self, schema: &Map<String, Value>, depth: u32) -> Value {
        let name = match schema.get("type") {
            Some(Value::String(name)) => name.as_str(),
            Some(Value::Array(names)) => {
                let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
                let lean = self.is_lean(depth).then(|| names.iter().min_by_key(|n| type_weight(n)));
                lean.flatten().copied().or_else(|| self.rng.choice(names)).unwrap_or("null")
            }
            _ => implied_type(schema),
        };
        match name {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => Value::String(self.string(schema)),
            "integer" => self.integer(schema),
            "number" => self.number(schema),
            "boolean" => Value::Bool(self.rng.bool()),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: u32) -> Value {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<&str> = strings(schema.get("required"));
        let mut made = Map::new();
        for (name, property) in properties {
            let wanted = required.contains(&name.as_str());
            if wanted || (!self.is_lean(depth) && self.rng.bool()) {
                made.insert(name.clone(), self.value(property, depth + 1));
            }
        }
        let other = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
        for name in required {
            if !made.contains_key(name) {
                made.insert(name.to_owned(), self.value(other, depth + 1));
            }
        }
        let least = size(schema, "minProperties").unwrap_or(0).min(MOST) as usize;
        for (name, property) in properties {
            if made.len() < least && !made.contains_key(name) {
                made.insert(name.clone(), self.value(property, depth + 1));
            }
        }
        for index in 1.. {
            if made.len() >= least || *other == Value::Bool(false) {
                break;
            }
            made.insert(format!("key_{index}"), self.value(other, depth + 1));
        }
        Value::Object(made)
    }

    fn array(&mut self, schema: &Map<String, Value>, depth: u32) -> Value {
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let first = first.map_or(&[][..], Vec::as_slice);
        let items = schema.get("items");
        let least = size(schema, "minItems").unwrap_or(0);
        let most = size(schema, "maxItems").unwrap_or(u64::MAX);
        let usual = if items == Some(&Value::Bool(false)) { first.len() as u64 } else { 3 };
        let most = most.min(least.max(usual)).min(MOST);
        let least = least.min(most);
        let length = if self.is_lean(depth) { least } else { self.rng.u64(least..=most) };
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let mut made = Vec::new();
        for index in 0..length as usize {
            let item = first.get(index).or(items).unwrap_or(&Value::Bool(true));
            let mut value = self.value(item, depth + 1);
            for _ in 0..30 {
                if !unique || !made.contains(&value) {
                    break;
                }
                value = self.value(item, depth + 1);
            }
            if !unique || !made.contains(&value) {
                made.push(value);
            }
        }
        Value::Array(made)
    }

    fn string(&mut self, schema: &Map<String, Value>) -> String {
        if let Some(text) =
            schema.get("format").and_then(Value::as_str).and_then(|f| self.format(f))
        {
            return text;
        }
        let least = size(schema, "minLength").unwrap_or(0).min(MOST) as usize;
        let most = size(schema, "maxLength").unwrap_or(u64::MAX).min(MOST) as usize;
        let mut text = self.language.words(self.rng);
        while text.chars().count() < least {
            text.push(' ');
            text.push_str(&self.language.words(self.rng));
        }
        if text.chars().count() > most {
            text = text.chars().take(most).collect();
        }
        text
    }

    fn format(&mut self, format: &str) -> Option<String> {
        let rng = &mut *self.rng;
        let date = format!("20{:02}-{:02}-{:02}", rng.u8(0..40), rng.u8(1..13), rng.u8(1..29));
        let time = format!("{:02}:{:02}:{:02}Z", rng.u8(0..24), rng.u8(0..60), rng.u8(0..60));
        Some(match format {
            "date" => date,
            "time" => time,
            "date-time" => format!("{date}T{time}"),
            "duration" => format!("P{}D", rng.u8(1..100)),
            "email" => format!("person{}@example.org", rng.u16(..)),
            "hostname" => format!("host{}.example.org", rng.u16(..)),
            "uri" => format!("https://example.org/{}", rng.u16(..)),
            "ipv4" => format!("192.0.2.{}", rng.u8(..)),
            "ipv6" => format!("2001:db8::{:x}", rng.u16(..)),
            "uuid" => uuid(rng),
            _ => return None,
        })
    }

    fn integer(&mut self, schema: &Map<String, Value>) -> Value {
        let (low, high) = bounds(schema);
        let step = step(schema).map_or(1, |step| (step.ceil() as i64).max(1));
        let above = low.exclusive && low.at.fract() == 0.0;
        let below = high.exclusive && high.at.fract() == 0.0;
        let low = (low.at.ceil() as i64).saturating_add(i64::from(above));
        let high = (high.at.floor() as i64).saturating_sub(i64::from(below));
        let (least, most) =
            (low.div_euclid(step) + i64::from(low.rem_euclid(step) > 0), high.div_euclid(step));
        let many = if most < least { least } else { self.rng.i64(least..=most) };
        Value::Number(many.saturating_mul(step).into())
    }

    fn number(&mut self, schema: &Map<String, Value>) -> Value {
        let (low, high) = bounds(schema);
        let step = step(schema).unwrap_or(0.01);
        let (least, most) = ((low.at / step).ceil(), (high.at / step).floor());
        let least = if low.exclusive && least * step <= low.at { least + 1.0 } else { least };
        let most = if high.exclusive && most * step >= high.at { most - 1.0 } else { most };
        let drawn = if least <= most {
            let many = (least + self.rng.f64() * (most - least)).round();
            // Whole steps, without the dust of binary fractions (3 * 0.1).
            (many * step * 1e9).round() / 1e9
        } else {
            f64::midpoint(low.at, high.at)
        };
        Number::from_f64(drawn).map_or(Value::Null, Value::Number)
    }
}

fn uuid(rng: &mut Rng) -> String {
    // Version 4, variant 1.
    let bits = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[derive(Clone, Copy)]
struct Bound {
    at: f64,
    exclusive: bool,
}

/// Returns the range of a number; where the schema leaves it open, it is a hundred wide.
fn bounds(schema: &Map<String, Value>) -> (Bound, Bound) {
    let bound = |inclusive: &str, exclusive: &str, pick: fn(f64, f64) -> bool| {
        let get = |key: &str| schema.get(key).and_then(Value::as_f64);
        match (get(inclusive), get(exclusive)) {
            (Some(at), Some(other)) if pick(at, other) => Some(Bound { at, exclusive: false }),
            (_, Some(at)) => Some(Bound { at, exclusive: true }),
            (Some(at), None) => Some(Bound { at, exclusive: false }),
            (None, None) => None,
        }
    };
    let low = bound("minimum", "exclusiveMinimum", |at, other| at > other);
    let high = bound("maximum", "exclusiveMaximum", |at, other| at < other);
    let open = |at| Bound { at, exclusive: false };
    match (low, high) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => {
            (low, open(if low.at < 90.0 { 100.0_f64.max(low.at) } else { low.at + 100.0 }))
        }
        (None, Some(high)) => (open(if high.at > 10.0 { 0.0 } else { high.at - 100.0 }), high),
        (None, None) => (open(0.0), open(100.0)),
    }
}

fn step(schema: &Map<String, Value>) -> Option<f64> {
    schema.get("multipleOf").and_then(Value::as_f64).filter(|step| *step > 0.0)
}

fn size(schema: &Map<String, Value>, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn strings(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn without(schema: &Map<String, Value>, keyword: &str) -> Map<String, Value> {
    schema
        .iter()
        .filter(|(key, _)| *key != keyword)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn implied_type(schema: &Map<String, Value>) -> &'static str {
    const SIGNS: [(&str, &[&str]); 3] = [
        ("object", &["properties", "required", "additionalProperties", "minProperties"]),
        ("array", &["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]),
        ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ];
    let has = |keys: &[&str]| keys.iter().any(|key| schema.contains_key(*key));
    SIGNS.iter().find(|(_, keys)| has(keys)).map_or("string", |(name, _)| name)
}

fn is_of(value: &Value, types: &Value) -> bool {
    let is = |name: &str| match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) => {
            name == "number"
                || (name == "integer" && number.as_f64().is_some_and(|n| n.fract() == 0.0))
        }
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    };
    match types {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Orders schemas by how far they lead: what ends at once first, what may recurse last.
fn weight(schema: &Value) -> u8 {
    let Some(schema) = schema.as_object() else { return 1 };
    if schema.contains_key("const") || schema.contains_key("enum") {
        return 1;
    }
    if ["$ref", "anyOf", "oneOf", "allOf"].iter().any(|key| schema.contains_key(*key)) {
        return 5;
    }
    match schema.get("type") {
        Some(Value::String(name)) => type_weight(name),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).map(type_weight).min().unwrap_or(1)
        }
        _ => type_weight(implied_type(schema)),
    }
}

fn type_weight(name: &str) -> u8 {
    match name {
        "null" => 0,
        "array" => 3,
        "object" => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Checks 200 values of a schema with an independent implementation of JSON Schema.
    fn holds(schema: &Value) {
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        for seed in 0..200 {
            let language = if seed % 2 == 0 { Language::English } else { Language::Korean };
            let value = fit(schema, language, &mut Rng::with_seed(seed));
            let problem = validator.iter_errors(&value).next();
            assert!(problem.is_none(), "seed {seed}: {value} under {schema}: {problem:?}");
            let again = fit(schema, language, &mut Rng::with_seed(seed));
            assert_eq!(value, again, "the same seed gives the same value");
        }
    }

    #[test]
    fn labels_scores_and_lists_fit() {
        holds(&json!({"type": "object", "additionalProperties": false,
            "required": ["label", "score", "tags", "note"],
            "properties": {
                "label": {"type": "string", "enum": ["good", "bad", "좋음"]},
                "score": {"type": "integer", "minimum": 1, "maximum": 5},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 7},
                         "minItems": 2, "maxItems": 4},
                "note": {"type": ["string", "null"]}}}));
    }

    #[test]
    fn numbers_keep_their_bounds() {
        for kind in ["integer", "number"] {
            for bounds in [
                json!({}),
                json!({"minimum": 3}),
                json!({"maximum": -3}),
                json!({"minimum": 250}),
                json!({"minimum": 95, "maximum": 96}),
                json!({"exclusiveMinimum": 0, "exclusiveMaximum": 2}),
                json!({"exclusiveMinimum": 0, "minimum": 5, "maximum": 9}),
                json!({"minimum": 7, "maximum": 7}),
                json!({"minimum": -20, "maximum": 20, "multipleOf": 5}),
                json!({"minimum": 1_000_000, "maximum": 1_000_001}),
            ] {
                let mut schema = bounds;
                schema["type"] = json!(kind);
                holds(&schema);
            }
        }
        holds(&json!({"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.1}));
        holds(&json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001}));
    }

    #[test]
    fn texts_keep_their_lengths_and_formats() {
        holds(&json!({"type": "string", "minLength": 100, "maxLength": 101}));
        holds(&json!({"type": "string", "maxLength": 0}));
        for format in [
            "date",
            "time",
            "date-time",
            "duration",
            "email",
            "hostname",
            "uri",
            "ipv4",
            "ipv6",
            "uuid",
        ] {
            holds(&json!({"type": "string", "format": format}));
        }
    }

    #[test]
    fn unions_references_and_recursion_fit() {
        holds(&json!({"$defs": {"node": {"type": "object", "additionalProperties": false,
                "required": ["value", "children", "next"],
                "properties": {
                    "value": {"type": "number"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}},
            "$ref": "#/$defs/node"}));
        holds(&json!({"type": "object", "additionalProperties": false, "required": ["self"],
            "properties": {"self": {"anyOf": [{"$ref": "#"}, {"const": "end"}]}}}));
        holds(&json!({"anyOf": [{"type": "boolean"}, {"type": "object",
            "properties": {"kind": {"const": "b"}}, "required": ["kind"]}]}));
        holds(&json!({"type": "object", "properties": {"a": {"type": "string"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"type": "null"}}}]}));
        holds(
            &json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]}),
        );
    }

    #[test]
    fn odd_schemas_fit_too() {
        holds(&json!(true));
        holds(&json!({}));
        holds(&json!({"properties": {"a": true}, "required": ["a", "b"]}));
        holds(
            &json!({"type": "array", "uniqueItems": true, "items": {"enum": [1, 2, 3]}, "maxItems": 3}),
        );
        holds(
            &json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": false}),
        );
        holds(&json!({"type": ["integer", "null"], "enum": [1, null, 2]}));
        holds(
            &json!({"type": "object", "minProperties": 3, "properties": {"a": {"type": "null"}}}),
        );
    }

    #[test]
    fn a_schema_that_never_ends_is_broken_off() {
        let endless = json!({"type": "object", "required": ["x", "y"],
            "properties": {"x": {"$ref": "#"}, "y": {"type": "array", "minItems": 1, "items": {"$ref": "#/nowhere"}}}});
        let value = fit(&endless, Language::English, &mut Rng::with_seed(1));
        assert!(value.is_object());
        let bush = json!({"type": "array", "minItems": 2, "maxItems": 2, "items": {"$ref": "#"}});
        // Two to the sixtieth would never return.
        assert!(fit(&bush, Language::English, &mut Rng::with_seed(1)).is_array());
        let ring = json!({"$ref": "#"});
        assert_eq!(fit(&ring, Language::English, &mut Rng::with_seed(1)), Value::Null);
    }
}
