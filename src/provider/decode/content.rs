//! What a message says: a text, or a list of parts of which only some are text.

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};

use super::loose::{Loose, Shape, from_object};

/// The text of a message, joined, and whether any part of it is a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) refused: bool,
}

impl<'de> Shape<'de> for Content {
    fn text(text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), refused: false })
    }

    /// Joins the text parts; other kinds (`thinking`, `reasoning`, images) are passed over.
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut content = Some(Self::default());
        while let Some(part) = list.next_element::<Loose<Part>>()? {
            content = content.zip(part.get()).and_then(|(content, part)| content.with(part));
        }
        Ok(content)
    }
}

impl Content {
    fn with(mut self, part: Part) -> Option<Self> {
        match part.r#type.get().as_deref() {
            None | Some("text" | "output_text") => self.text += &part.text.get()?,
            Some("refusal") => self.refused = true,
            Some(_) => {}
        }
        Some(self)
    }
}

/// One part of a list; some servers put bare text there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    r#type: Loose<String>,
    text: Loose<String>,
}

impl<'de> Shape<'de> for Part {
    fn text(text: &str) -> Option<Self> {
        Some(Self { r#type: Loose::Missing, text: Loose::Is(text.to_owned()) })
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        from_object(object)
    }
}
