//! The rules that tables are made of, and the words for what breaks them.

use serde_json::Value;

use crate::simulate::reply::Problem;

/// What a value may be.
pub(super) enum Rule {
    /// Anything at all.
    Anything,
    /// `true` or `false`.
    Flag,
    /// A string of at most so many characters.
    Text(usize),
    /// A string of 1 to 64 letters, digits, underscores and dashes.
    Name,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// An integer in this range.
    Integer(i64, i64),
    /// A number in this range.
    Number(f64, f64),
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// Any object.
    Open,
    /// An object with free keys.
    Map(MapRule),
    /// An array of `min..=max` items.
    List(usize, usize, &'static Rule),
    /// A text, or a list of such parts, of which there is at least one.
    TextOr(&'static Rule),
    /// What another rule says.
    Same(&'static Rule),
    /// The first of these rules that is for this kind of value.
    Either(&'static [Rule]),
    /// An object whose rule is chosen by the word in one of its fields.
    Tagged(&'static str, Option<&'static str>, &'static [(&'static str, Rule)]),
}

/// The rule for an object with free keys.
pub(super) struct MapRule {
    pub(super) pairs: usize,
    pub(super) key_chars: usize,
    pub(super) value: &'static Rule,
}

/// One field of an object.
pub(super) struct Field {
    name: &'static str,
    rule: Rule,
    required: bool,
    nullable: bool,
}

/// A field that must be there.
pub(super) const fn required(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, required: true, nullable: false }
}

/// A field that may be left out.
pub(super) const fn optional(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, required: false, nullable: false }
}

/// A field that may be left out or be `null`.
pub(super) const fn nullable(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, required: false, nullable: true }
}

/// A field that must be there, but may be `null`.
pub(super) const fn required_or_null(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, required: true, nullable: true }
}

/// No bound on the length of a text.
pub(super) const ANY_LENGTH: usize = usize::MAX;

impl Rule {
    /// Checks a whole body.
    pub(super) fn check_body(&self, body: &Value) -> Result<(), Problem> {
        self.check(body).map_err(Violation::into_problem)
    }

    fn check(&self, value: &Value) -> Result<(), Violation> {
        match (self, value) {
            (Self::Anything, _) | (Self::Flag, Value::Bool(_)) | (Self::Open, Value::Object(_)) => {
                Ok(())
            }
            (Self::Text(most), Value::String(text)) => check_length(text, *most),
            (Self::Name, Value::String(text)) => check_name(text),
            (Self::Word(words), Value::String(word)) => check_word(word, words),
            (Self::Integer(min, max), Value::Number(number)) if is_integer(value) => {
                let got = number.as_f64().unwrap_or(f64::MAX);
                check_range(got, (*min as f64, *max as f64), "integer")
            }
            (Self::Number(min, max), Value::Number(number)) => {
                check_range(number.as_f64().unwrap_or(f64::MAX), (*min, *max), "decimal")
            }
            (Self::Object(fields), Value::Object(object)) => check_fields(object, fields),
            (Self::Map(rule), Value::Object(object)) => check_map(object, rule),
            (Self::TextOr(_), Value::String(_)) => Ok(()),
            (Self::TextOr(item), Value::Array(items)) => check_items(items, (1, usize::MAX), item),
            (Self::List(min, max, item), Value::Array(items)) => {
                check_items(items, (*min, *max), item)
            }
            (Self::Same(rule), _) => rule.check(value),
            (Self::Either(rules), _) => match rules.iter().find(|rule| rule.is_for(value)) {
                Some(rule) => rule.check(value),
                None => Err(self.wrong_type(value)),
            },
            (Self::Tagged(tag, fallback, variants), Value::Object(object)) => {
                check_tagged(object, (tag, *fallback), variants)
            }
            _ => Err(self.wrong_type(value)),
        }
    }

    fn is_for(&self, value: &Value) -> bool {
        match self {
            Self::Anything => true,
            Self::Flag => value.is_boolean(),
            Self::Text(_) | Self::Name | Self::Word(_) => value.is_string(),
            Self::Integer(..) => is_integer(value),
            Self::Number(..) => value.is_number(),
            Self::Object(_) | Self::Open | Self::Map(_) | Self::Tagged(..) => value.is_object(),
            Self::List(..) => value.is_array(),
            Self::TextOr(_) => value.is_string() || value.is_array(),
            Self::Same(rule) => rule.is_for(value),
            Self::Either(rules) => rules.iter().any(|rule| rule.is_for(value)),
        }
    }

    fn expected(&self) -> String {
        match self {
            Self::Anything => "a value".to_owned(),
            Self::Flag => "a boolean".to_owned(),
            Self::Text(_) | Self::Name => "a string".to_owned(),
            Self::Word(words) => format!("one of {}", quoted(words, "or")),
            Self::Integer(..) => "an integer".to_owned(),
            Self::Number(..) => "a decimal number".to_owned(),
            Self::Object(_) | Self::Open | Self::Map(_) | Self::Tagged(..) => {
                "an object".to_owned()
            }
            Self::List(_, _, item) => format!("an array of {}", item.plural()),
            Self::TextOr(_) => "a string or an array of objects".to_owned(),
            Self::Same(rule) => rule.expected(),
            Self::Either(rules) => {
                let kinds: Vec<_> = rules.iter().map(Self::expected).collect();
                kinds.join(" or ")
            }
        }
    }

    fn plural(&self) -> &'static str {
        match self {
            Self::Anything | Self::Either(_) | Self::TextOr(_) => "values",
            Self::Same(rule) => rule.plural(),
            Self::Flag => "booleans",
            Self::Text(_) | Self::Name | Self::Word(_) => "strings",
            Self::Integer(..) => "integers",
            Self::Number(..) => "numbers",
            Self::Object(_) | Self::Open | Self::Map(_) | Self::Tagged(..) => "objects",
            Self::List(..) => "arrays",
        }
    }

    fn wrong_type(&self, value: &Value) -> Violation {
        Violation::new(Breach::Type { expected: self.expected(), got: kind(value) })
    }
}

fn check_items(
    items: &[Value],
    (min, max): (usize, usize),
    rule: &'static Rule,
) -> Result<(), Violation> {
    check_count(items.len(), min, max)?;
    items.iter().enumerate().try_for_each(|(index, item)| {
        rule.check(item).map_err(|violation| violation.at(Step::Index(index)))
    })
}

fn check_fields(
    object: &serde_json::Map<String, Value>,
    fields: &'static [Field],
) -> Result<(), Violation> {
    for (name, value) in object {
        let named = |violation: Violation| violation.at(Step::Name(name.clone()));
        let field = fields
            .iter()
            .find(|field| field.name == name)
            .ok_or_else(|| named(Violation::new(Breach::Unknown)))?;
        if !(field.nullable && value.is_null()) {
            field.rule.check(value).map_err(named)?;
        }
    }
    match fields.iter().find(|field| field.required && !object.contains_key(field.name)) {
        None => Ok(()),
        Some(field) => Err(Violation::new(Breach::Missing).at(Step::Name(field.name.to_owned()))),
    }
}

fn check_tagged(
    object: &serde_json::Map<String, Value>,
    (tag, fallback): (&'static str, Option<&'static str>),
    variants: &'static [(&'static str, Rule)],
) -> Result<(), Violation> {
    let at_tag = |breach| Violation::new(breach).at(Step::Name(tag.to_owned()));
    let word = match object.get(tag) {
        Some(Value::String(word)) => word.as_str(),
        Some(other) => {
            return Err(at_tag(Breach::Type { expected: "a string".to_owned(), got: kind(other) }));
        }
        None => fallback.ok_or_else(|| at_tag(Breach::Missing))?,
    };
    if let Some((_, rule)) = variants.iter().find(|(name, _)| *name == word) {
        return rule.check_members(object);
    }
    let words = variants.iter().map(|(name, _)| *name).collect();
    Err(at_tag(Breach::Word { got: word.to_owned(), words }))
}

impl Rule {
    /// Checks the members of an object that is known to be one.
    fn check_members(&self, object: &serde_json::Map<String, Value>) -> Result<(), Violation> {
        match self {
            Self::Object(fields) => check_fields(object, fields),
            Self::Map(rule) => check_map(object, rule),
            Self::Tagged(tag, fallback, variants) => {
                check_tagged(object, (tag, *fallback), variants)
            }
            Self::Same(rule) => rule.check_members(object),
            Self::Anything
            | Self::Open
            | Self::TextOr(_)
            | Self::Flag
            | Self::Text(_)
            | Self::Name
            | Self::Word(_)
            | Self::Integer(..)
            | Self::Number(..)
            | Self::List(..)
            | Self::Either(_) => Ok(()),
        }
    }
}

fn check_map(object: &serde_json::Map<String, Value>, rule: &MapRule) -> Result<(), Violation> {
    if object.len() > rule.pairs {
        let count = |pairs| format!("an object with {pairs} properties");
        return Err(Violation::new(Breach::Bound {
            what: "too many properties",
            expected: format!("an object with at most {} properties", rule.pairs),
            got: count(object.len()),
            code: "object_above_max_properties",
        }));
    }
    object.iter().try_for_each(|(key, value)| {
        let checked = check_length(key, rule.key_chars).and_then(|()| rule.value.check(value));
        checked.map_err(|violation| violation.at(Step::Name(key.chars().take(64).collect())))
    })
}

fn check_length(text: &str, most: usize) -> Result<(), Violation> {
    // Bytes are never fewer than characters, so most texts need no counting.
    if text.len() <= most || text.chars().count() <= most {
        return Ok(());
    }
    Err(Violation::new(Breach::Bound {
        what: "string too long",
        expected: format!("a string with maximum length {most}"),
        got: format!("a string with length {}", text.chars().count()),
        code: "string_above_max_length",
    }))
}

fn check_name(text: &str) -> Result<(), Violation> {
    check_length(text, 64)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !text.is_empty() && text.bytes().all(fits) {
        return Ok(());
    }
    Err(Violation::new(Breach::Pattern("^[a-zA-Z0-9_-]+$")))
}

fn check_word(word: &str, words: &'static [&'static str]) -> Result<(), Violation> {
    if words.contains(&word) {
        return Ok(());
    }
    Err(Violation::new(Breach::Word { got: word.to_owned(), words: words.to_vec() }))
}

fn check_range(got: f64, (min, max): (f64, f64), kind: &str) -> Result<(), Violation> {
    let (what, expected, code) = match (kind, got < min, got > max) {
        (_, false, false) => return Ok(()),
        ("integer", true, _) => ("integer below minimum value", min, "integer_below_min_value"),
        ("integer", ..) => ("integer above maximum value", max, "integer_above_max_value"),
        (_, true, _) => ("decimal below minimum value", min, "decimal_below_min_value"),
        (..) => ("decimal above maximum value", max, "decimal_above_max_value"),
    };
    let sign = if got < min { ">=" } else { "<=" };
    Err(Violation::new(Breach::Bound {
        what,
        expected: format!("a value {sign} {expected}"),
        got: got.to_string(),
        code,
    }))
}

fn check_count(got: usize, min: usize, max: usize) -> Result<(), Violation> {
    let (what, expected, code) = if got < min && got == 0 {
        ("empty array", format!("an array with minimum length {min}"), "empty_array")
    } else if got < min {
        ("array too short", format!("an array with minimum length {min}"), "array_below_min_length")
    } else if got > max {
        ("array too long", format!("an array with maximum length {max}"), "array_above_max_length")
    } else {
        return Ok(());
    };
    let got = match got {
        0 => "an empty array".to_owned(),
        count => format!("an array with length {count}"),
    };
    Err(Violation::new(Breach::Bound { what, expected, got, code }))
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) if is_integer(value) => "an integer",
        Value::Number(_) => "a decimal number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// One broken rule. Its place is gathered on the way out, so that a good body pays nothing for it.
struct Violation {
    /// From the inside out.
    steps: Vec<Step>,
    breach: Breach,
}

enum Step {
    Name(String),
    Index(usize),
}

enum Breach {
    Missing,
    Unknown,
    Type { expected: String, got: &'static str },
    Word { got: String, words: Vec<&'static str> },
    Bound { what: &'static str, expected: String, got: String, code: &'static str },
    Pattern(&'static str),
}

impl Violation {
    fn new(breach: Breach) -> Self {
        Self { steps: Vec::new(), breach }
    }

    fn at(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn path(&self) -> String {
        self.steps.iter().rev().fold(String::new(), |path, step| match step {
            Step::Index(index) => format!("{path}[{index}]"),
            Step::Name(name) if path.is_empty() => name.clone(),
            Step::Name(name) => format!("{path}.{name}"),
        })
    }

    fn into_problem(self) -> Problem {
        let path = self.path();
        let (code, message) = self.breach.told(&path);
        Problem::invalid(&path, code, message)
    }
}

impl Breach {
    /// Returns OpenAI's code and words for a breach at `path`.
    fn told(&self, path: &str) -> (&'static str, String) {
        match self {
            Self::Missing => {
                ("missing_required_parameter", format!("Missing required parameter: '{path}'."))
            }
            Self::Unknown => ("unknown_parameter", format!("Unknown parameter: '{path}'.")),
            Self::Type { expected, got } => {
                let place = if path.is_empty() { "the body" } else { &format!("'{path}'") };
                (
                    "invalid_type",
                    format!(
                        "Invalid type for {place}: expected {expected}, but got {got} instead."
                    ),
                )
            }
            Self::Word { got, words } => {
                let got: String = got.chars().take(64).collect();
                let words = quoted(words, "and");
                ("invalid_value", format!("Invalid value: '{got}'. Supported values are: {words}."))
            }
            Self::Bound { what, expected, got, code } => (
                code,
                format!("Invalid '{path}': {what}. Expected {expected}, but got {got} instead."),
            ),
            Self::Pattern(pattern) => (
                "invalid_value",
                format!(
                    "Invalid '{path}': string does not match pattern. Expected a string that \
                     matches the pattern '{pattern}'."
                ),
            ),
        }
    }
}

/// Writes `'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`.
fn quoted(words: &[&str], joint: &str) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} {joint} {two}"),
        [most @ .., last] => format!("{}, {joint} {last}", most.join(", ")),
    }
}
