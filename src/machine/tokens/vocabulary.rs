//! Which vocabulary a model reads with.
//!
//! By the names that OpenAI gives its models, as `tiktoken` maps them. A name that is not known here has no
//! vocabulary: nobody is told that a count is exact on a guess.

use crate::domain::ModelName;

/// A vocabulary that is in this program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vocabulary {
    /// `o200k_base`: OpenAI's models from gpt-4o on.
    #[default]
    O200k,
    /// `cl100k_base`: gpt-4 and gpt-3.5.
    Cl100k,
}

/// Families of OpenAI's models; what follows one is nothing, a version, a date or a variant.
const FAMILIES: [(&str, Vocabulary); 14] = [
    ("gpt-4o", Vocabulary::O200k),
    ("gpt-4.1", Vocabulary::O200k),
    ("gpt-4.5", Vocabulary::O200k),
    ("gpt-5", Vocabulary::O200k),
    ("gpt-6", Vocabulary::O200k),
    ("gpt-oss", Vocabulary::O200k),
    ("chatgpt-4o", Vocabulary::O200k),
    ("codex-mini", Vocabulary::O200k),
    ("o1", Vocabulary::O200k),
    ("o3", Vocabulary::O200k),
    ("o4", Vocabulary::O200k),
    ("gpt-4", Vocabulary::Cl100k),
    ("gpt-3.5", Vocabulary::Cl100k),
    ("gpt-35", Vocabulary::Cl100k),
];

impl Vocabulary {
    /// Returns the vocabulary of a model, where it is known to have one of these.
    ///
    /// Other providers serve OpenAI's open models under the same names, with or without `openai/` before them. The
    /// simulated provider counts as OpenAI's newer models do.
    pub fn of(model: &ModelName) -> Option<Self> {
        let name = model.model.to_ascii_lowercase();
        match model.provider.as_str() {
            "simulated" => Some(Self::O200k),
            "openai" => Self::of_name(name.strip_prefix("ft:").unwrap_or(&name)),
            _ => {
                let bare = name.rsplit('/').next().unwrap_or(&name);
                bare.starts_with("gpt-oss").then_some(Self::O200k)
            }
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        let is_of = |family: &str| {
            let rest = name.strip_prefix(family)?;
            // `gpt-5.4` is of the family `gpt-5`; of `gpt-4`, what follows a point is a family of its own.
            let has_versions = matches!(family, "gpt-5" | "gpt-6");
            let is_end = rest.is_empty() || rest.starts_with(['-', ':']);
            (is_end || has_versions && rest.starts_with('.')).then_some(())
        };
        FAMILIES.iter().find_map(|(family, vocabulary)| is_of(family).map(|()| *vocabulary))
    }

    /// Counts the tokens of a text. What reads like a special token is counted as the text that it is.
    pub fn count(self, text: &str) -> u64 {
        self.tokenizer().count(text) as u64
    }

    /// Returns its tokenizer, which is made when it is first asked for.
    fn tokenizer(self) -> &'static tiktoken::CoreBpe {
        let name = match self {
            Self::O200k => "o200k_base",
            Self::Cl100k => "cl100k_base",
        };
        tiktoken::get_encoding(name).expect("both vocabularies are compiled in")
    }
}
