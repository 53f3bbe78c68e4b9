//! JSON text read strictly and written again compactly, without a tree in between.
//!
//! A general parser would lose what rows need kept: the digits of a number, and where an error is.
//! And it would let pass what breaks later: half a surrogate pair, one name twice, a NUL. What this
//! accepts is what `serde_json` reads into a `Value` (a test holds the two against each other),
//! except for those three.

use std::borrow::Cow;

use super::error::Problem;
use super::escape::push_string;

/// How deep arrays and objects may nest, the line's own object included: `serde_json`'s limit.
const MAX_DEPTH: usize = 127;

/// What is wrong, and at which byte of the text.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

/// A kind of JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// The name of a member of an object, and the byte at which it stands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) at: usize,
}

/// A place in a JSON text.
pub(super) struct Json<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Json<'a> {
    /// Starts at the beginning of a text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Returns how far it has come.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Skips white space and returns the byte that comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Takes `byte` if it comes next.
    pub(super) fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Returns the flaw that something else was expected here.
    pub(super) fn expected(&self, expected: &'static str) -> Flaw {
        Flaw { at: self.at, problem: Problem::NotJson { expected } }
    }

    /// Takes an object's opening brace.
    pub(super) fn open_object(&mut self) -> Result<(), Flaw> {
        if self.takes(b'{') { self.deeper() } else { Err(self.expected("an opening brace {")) }
    }

    /// Goes to the next member of an open object and returns its name, or closes the object.
    pub(super) fn next_name(&mut self, place: Place) -> Result<Option<Name<'a>>, Flaw> {
        if self.takes(b'}') {
            self.depth -= 1;
            return Ok(None);
        }
        if place == Place::After && !self.takes(b',') {
            return Err(self.expected("a comma or } after a value"));
        }
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in double quotes"));
        }
        let at = self.at;
        let text = self.string()?;
        if !self.takes(b':') {
            return Err(self.expected("a colon after a name"));
        }
        Ok(Some(Name { text, at }))
    }

    /// Takes a string and returns what it says.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Flaw> {
        let start = self.at + 1;
        self.at = start;
        let mut said = String::new();
        let mut run = start;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            self.at += rest.iter().position(special).unwrap_or(rest.len());
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    said.push_str(&self.text[run..self.at]);
                    said.push(self.escape()?);
                    run = self.at;
                }
                Some(_) => return Err(self.bad("a control character stands bare in a string")),
                None => return Err(self.expected("a closing quote before the end of the line")),
            }
        }
        let tail = &self.text[run..self.at];
        self.at += 1;
        if run == start {
            return Ok(Cow::Borrowed(tail));
        }
        said.push_str(tail);
        Ok(Cow::Owned(said))
    }

    /// Takes any value and appends it to `out`, compactly.
    pub(super) fn value(&mut self, out: &mut String) -> Result<Kind, Flaw> {
        match self.peek() {
            Some(b'{') => self.object(out),
            Some(b'[') => self.array(out),
            Some(b'"') => {
                push_string(out, &self.string()?);
                Ok(Kind::String)
            }
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => self.word(out),
        }
    }

    fn object(&mut self, out: &mut String) -> Result<Kind, Flaw> {
        self.open_object()?;
        let mut names = Vec::new();
        let mut place = Place::Before;
        out.push('{');
        while let Some(name) = self.next_name(place)? {
            if place == Place::After {
                out.push(',');
            }
            place = Place::After;
            push_string(out, &name.text);
            names.push(name);
            out.push(':');
            self.value(out)?;
        }
        out.push('}');
        no_name_twice(names)?;
        Ok(Kind::Object)
    }

    fn array(&mut self, out: &mut String) -> Result<Kind, Flaw> {
        self.at += 1;
        self.deeper()?;
        out.push('[');
        if !self.takes(b']') {
            loop {
                self.value(out)?;
                if self.takes(b']') {
                    break;
                }
                if !self.takes(b',') {
                    return Err(self.expected("a comma or ] after a value"));
                }
                out.push(',');
            }
        }
        out.push(']');
        self.depth -= 1;
        Ok(Kind::Array)
    }

    fn number(&mut self, out: &mut String) -> Result<Kind, Flaw> {
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'I') {
            return Err(self.bad(NOT_FINITE));
        }
        let leading_zero = self.byte() == Some(b'0');
        let whole = self.digits()?;
        if leading_zero && whole > 1 {
            self.at = start;
            return Err(self.bad("a number starts with a zero"));
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let exponent = matches!(self.byte(), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if (exponent || whole > 300) && number.parse().is_ok_and(f64::is_infinite) {
            self.at = start;
            return Err(self.bad("a number is too large"));
        }
        out.push_str(number);
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<usize, Flaw> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.expected("a digit")) } else { Ok(count) }
    }

    fn word(&mut self, out: &mut String) -> Result<Kind, Flaw> {
        let rest = &self.text[self.at..];
        for (word, kind) in [("null", Kind::Null), ("true", Kind::Bool), ("false", Kind::Bool)] {
            if rest.starts_with(word) {
                self.at += word.len();
                out.push_str(word);
                return Ok(kind);
            }
        }
        if ["NaN", "Infinity"].iter().any(|word| rest.starts_with(word)) {
            return Err(self.bad(NOT_FINITE));
        }
        Err(self.expected("a value"))
    }

    fn escape(&mut self) -> Result<char, Flaw> {
        let start = self.at;
        self.at += 2;
        Ok(match self.text.as_bytes().get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(start),
            _ => {
                self.at = start;
                return Err(self.expected("one of the escapes of JSON"));
            }
        })
    }

    /// Takes the digits after `\u`, and the second half of a pair.
    fn code_point(&mut self, start: usize) -> Result<char, Flaw> {
        let lone = |at| Flaw { at, problem: Problem::BadJson(LONE_SURROGATE) };
        let unit = self.four_digits()?;
        let code = match unit {
            0xd800..=0xdbff => {
                if !self.text[self.at..].starts_with("\\u") {
                    return Err(lone(start));
                }
                self.at += 2;
                let low = self.four_digits()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(lone(start));
                }
                0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            0 => {
                self.at = start;
                return Err(self.bad("a string holds a NUL (\\u0000)"));
            }
            _ => unit,
        };
        char::from_u32(code).ok_or_else(|| lone(start))
    }

    fn four_digits(&mut self) -> Result<u32, Flaw> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut unit = 0;
        for &digit in digits {
            let value = char::from(digit).to_digit(16);
            unit = unit * 16 + value.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        }
        if digits.is_empty() {
            return Err(self.expected("four hexadecimal digits"));
        }
        self.at += 4;
        Ok(unit)
    }

    fn deeper(&mut self) -> Result<(), Flaw> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.at -= 1;
            return Err(self.bad("arrays and objects nest too deep"));
        }
        Ok(())
    }

    fn bad(&self, what: &'static str) -> Flaw {
        Flaw { at: self.at, problem: Problem::BadJson(what) }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// Whether a place in an object is before its first member or after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Before,
    After,
}

const NOT_FINITE: &str = "JSON has no NaN and no Infinity; write null";
const LONE_SURROGATE: &str = "an escape is half of a surrogate pair, which is no character";

fn no_name_twice(mut names: Vec<Name<'_>>) -> Result<(), Flaw> {
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0].text == pair[1].text);
    twice.map_or(Ok(()), |pair| {
        let problem = Problem::DuplicateName { name: pair[1].text.to_string() };
        Err(Flaw { at: pair[1].at, problem })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn compact(text: &str) -> Result<String, Flaw> {
        let mut json = Json::new(text);
        let mut out = String::new();
        json.value(&mut out)?;
        if json.peek().is_some() {
            return Err(json.expected("the end"));
        }
        Ok(out)
    }

    #[test]
    fn values_are_compacted_and_numbers_keep_their_digits() {
        let text = " { \"a\" : [ 12345678901234567890.10 , -0 , 1E5 , null , true ] , \"\\u0062\" : \"\\/\\ud83d\\ude42\\u001f\" } ";
        assert_eq!(
            compact(text).unwrap(),
            "{\"a\":[12345678901234567890.10,-0,1E5,null,true],\"b\":\"/\u{1f642}\\u001f\"}"
        );
    }

    #[test]
    fn what_would_break_later_is_refused_where_it_stands() {
        let cases = [
            (r#"["\ud800"]"#, 2),
            (r#"["\ud800\u0041"]"#, 2),
            (r#"["\udc00"]"#, 2),
            (r#"["a\u0000"]"#, 3),
            (r#"{"a":1,"b":{"c":1,"c":2}}"#, 18),
            (r#"{"a":1,"\u0061":2}"#, 7),
            ("[NaN]", 1),
            ("[-Infinity]", 2),
            ("[1e400]", 1),
            ("[01]", 1),
            ("[1.]", 3),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("{'a':1}", 1),
            ("{\"a\" 1}", 5),
            ("{\"a\":1,}", 7),
            ("\"a\tb\"", 2),
            ("\"ab", 3),
            ("\"\\u12", 3),
            ("\"\\u12가\"", 3),
            ("\"\\x\"", 1),
            ("", 0),
        ];
        for (text, at) in cases {
            assert_eq!(compact(text).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_as_in_serde_json() {
        for depth in [127, 128, 100_000] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            let theirs = serde_json::from_str::<Value>(&text).is_ok();
            assert_eq!(compact(&text).is_ok(), theirs, "depth {depth}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let number = any::<f64>().prop_map(Value::from);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            number,
            "[^\0]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let object = proptest::collection::vec(("[^\0]*", inner.clone()), 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>());
            prop_oneof![
                proptest::collection::vec(inner, 0..6).prop_map(Value::from),
                object.prop_map(Value::from),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_out_as_serde_json_writes_it(value in values()) {
            let written = compact(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
            prop_assert_eq!(written, value.to_string());
        }

        #[test]
        fn what_is_accepted_is_what_serde_json_accepts(text in "[\\[\\]{},:\"\\\\ux0-9eE+.\\-nultrfas ]{0,12}") {
            let ours = compact(&text);
            let theirs = serde_json::from_str::<Value>(&text);
            match &ours {
                Ok(out) => prop_assert_eq!(serde_json::from_str::<Value>(out).unwrap(), theirs.unwrap()),
                Err(Flaw { problem: Problem::NotJson { .. }, .. }) => prop_assert!(theirs.is_err()),
                Err(_) => {}
            }
        }
    }
}
