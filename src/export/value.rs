//! Cells and answers on their way out: JSON text that is looked at and never rebuilt.
//!
//! A value that went through a tree would come back with other digits, so objects are only split
//! into the texts of their members.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What stands in one column of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nothing.
    Missing,
    /// A text.
    Text(Cow<'a, str>),
    /// JSON text.
    Json(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// Makes a text, or nothing.
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Missing, |text| Self::Text(Cow::Borrowed(text)))
    }

    /// Makes a number, or nothing.
    pub(super) fn number(number: Option<impl fmt::Display>) -> Self {
        number.map_or(Self::Missing, |number| Self::Json(Cow::Owned(number.to_string())))
    }

    /// Makes the value of a member of an object, or nothing.
    pub(super) fn member(raw: Option<&'a RawValue>) -> Self {
        raw.map_or(Self::Missing, |raw| Self::Json(Cow::Borrowed(raw.get())))
    }
}

/// Names that members of an object may have, each with its place.
#[derive(Debug, Default)]
pub(super) struct Names {
    list: Vec<String>,
    index: HashMap<String, usize>,
}

/// The members of an object by the places of their names.
pub(super) struct Members<'a> {
    /// One a name; `None` where the object has no such member.
    pub(super) values: Vec<Option<&'a RawValue>>,
    /// Whether the object has members beyond those named.
    pub(super) has_others: bool,
}

impl Names {
    pub(super) fn new(list: Vec<String>) -> Self {
        let index = list.iter().cloned().enumerate().map(|(at, name)| (name, at)).collect();
        Self { list, index }
    }

    pub(super) fn list(&self) -> &[String] {
        &self.list
    }

    /// Splits the text of a JSON object into the texts of its members; of equal names the last counts.
    pub(super) fn split<'a>(&self, object: &'a str) -> serde_json::Result<Members<'a>> {
        let mut json = serde_json::Deserializer::from_str(object);
        let members = self.deserialize(&mut json)?;
        json.end()?;
        Ok(members)
    }

    /// Finds a name, first where it stands if an object has its members in our order.
    fn find(&self, name: &str, likely: usize) -> Option<usize> {
        match self.list.get(likely) {
            Some(next) if next == name => Some(likely),
            _ => self.index.get(name).copied(),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Names {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Members<'de>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Names {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members { values: vec![None; self.list.len()], has_others: false };
        let mut likely = 0;
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            match self.find(&name, likely) {
                Some(at) => {
                    members.values[at] = Some(value);
                    likely = at + 1;
                }
                None => members.has_others = true,
            }
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        json.deserialize_str(Reader)
    }
}

/// Returns what a JSON string says; `None` where the text is none.
pub(super) fn said(json: &str) -> Option<Cow<'_, str>> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    match inside.contains('\\') {
        false => Some(Cow::Borrowed(inside)),
        true => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(names: &[&str], object: &str) -> Option<(Vec<Option<String>>, bool)> {
        let names = Names::new(names.iter().map(|&name| name.to_owned()).collect());
        let members = names.split(object).ok()?;
        let text = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
        Some((members.values.into_iter().map(text).collect(), members.has_others))
    }

    #[test]
    fn an_object_is_split_into_the_texts_of_its_members() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            split(&["a", "b", "c"], r#"{"b":1.50e+400,"a":"x\ny"}"#),
            Some((vec![some(r#""x\ny""#), some("1.50e+400"), None], false))
        );
        assert_eq!(
            split(&["é\n"], r#"{ "\u00e9\n" : [1, 2] }"#),
            Some((vec![some("[1, 2]")], false))
        );
        assert_eq!(split(&["a"], r#"{"a":1,"b":2,"a":3}"#), Some((vec![some("3")], true)));
        assert_eq!(split(&[], "{}"), Some((vec![], false)));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "1", "null", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":}"#] {
            assert_eq!(split(&["a"], text), None, "{text}");
        }
    }

    #[test]
    fn a_string_says_what_its_escapes_stand_for() {
        assert_eq!(said(r#""a \"b\" 😀""#).as_deref(), Some("a \"b\" 😀"));
        assert_eq!(said(r#""""#).as_deref(), Some(""));
        assert_eq!(said("12"), None);
        assert_eq!(said("\""), None);
    }
}
