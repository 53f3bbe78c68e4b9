//! Reading JSON of which only some parts matter, without falling over the rest.
//!
//! A field of the wrong type must neither fail the whole reply nor end up, with its content, in an
//! error message, as serde's own errors would have it. [`Loose`] therefore takes any JSON
//! and remembers only that it was wrong, in one pass and without building a tree.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field that may be absent, null, or of a type that nobody documented.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::provider) enum Loose<T> {
    /// Absent or null.
    #[default]
    Missing,
    /// As documented.
    Is(T),
    /// Of another type.
    Wrong,
}

impl<T> Loose<T> {
    /// Returns the value if there is one of the right type.
    pub(in crate::provider) fn get(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Missing | Self::Wrong => None,
        }
    }

    /// Says whether there is a value of a wrong type.
    pub(in crate::provider) fn is_wrong(&self) -> bool {
        match self {
            Self::Wrong => true,
            Self::Missing | Self::Is(_) => false,
        }
    }
}

/// What can be made of which kind of JSON value; every kind that is not named is wrong.
pub(in crate::provider) trait Shape<'de>: Sized {
    fn text(_: &str) -> Option<Self> {
        None
    }

    fn number(_: f64) -> Option<Self> {
        None
    }

    fn flag(_: bool) -> Option<Self> {
        None
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Makes a [`Shape`] of a struct that derives `Deserialize`.
macro_rules! object_shapes {
    ($($name:ty),+ $(,)?) => {$(
        impl<'de> $crate::provider::decode::loose::Shape<'de> for $name {
            fn object<A: serde::de::MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
                $crate::provider::decode::loose::from_object(object)
            }
        }
    )+};
}
pub(in crate::provider) use object_shapes;

pub(in crate::provider) fn from_object<'de, T, A>(object: A) -> Result<Option<T>, A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    T::deserialize(MapAccessDeserializer::new(object)).map(Some)
}

impl Shape<'_> for String {
    fn text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// More than any list of parts or problems has. Without a bound, a list of nothings takes up fifty times its own length.
const MOST_ITEMS: usize = 100_000;

impl<'de, T: Shape<'de>> Shape<'de> for Vec<Loose<T>> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Self::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
            if items.len() > MOST_ITEMS {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
        }
        Ok(Some(items))
    }
}

/// The first item of a list; the others are passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::provider) struct First<T>(pub(in crate::provider) Option<Loose<T>>);

impl<'de, T: Shape<'de>> Shape<'de> for First<T> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let first = list.next_element()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(Self(first)))
    }
}

/// A count of tokens: whole, not negative, and below what any reply can come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Count(pub(in crate::provider) u64);

impl Count {
    /// Far above any model's context, far below what would overflow a sum or a cost.
    const MAX: f64 = 1e12;
}

impl Shape<'_> for Count {
    fn number(number: f64) -> Option<Self> {
        (0.0..=Self::MAX).contains(&number).then_some(Self(number as u64))
    }
}

/// A field of which only this matters: whether it is there and holds anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Present;

impl<'de> Shape<'de> for Present {
    fn text(text: &str) -> Option<Self> {
        (!text.is_empty()).then_some(Self)
    }

    fn number(_: f64) -> Option<Self> {
        Some(Self)
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut found = None;
        while list.next_element::<IgnoredAny>()?.is_some() {
            found = Some(Self);
        }
        Ok(found)
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut found = None;
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            found = Some(Self);
        }
        Ok(found)
    }
}

impl<'de, T: Shape<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind(PhantomData))
    }
}

struct AnyKind<T>(PhantomData<T>);

fn right<T>(value: Option<T>) -> Loose<T> {
    value.map_or(Loose::Wrong, Loose::Is)
}

impl<'de, T: Shape<'de>> Visitor<'de> for AnyKind<T> {
    type Value = Loose<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Loose::Missing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(right(T::flag(flag)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(right(T::number(number as f64)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(right(T::number(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(right(T::number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(right(T::text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::list(list).map(right)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::object(object).map(right)
    }
}
