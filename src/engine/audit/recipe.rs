//! A prompt version made ready to make and read again what was made and read with it.

use std::collections::HashMap;

use super::finding::{Check, Finding, Findings};
use crate::domain::{AnswerFormat, Endpoint, Message, PromptId, PromptSpec, Structured, UnixMs};
use crate::engine::task::{Prices, TaskParts};
use crate::input::prompt_file::{self, BaseUrl, PromptDefaults};
use crate::machine::answer_check::AnswerCheck;
use crate::machine::render::{RenderError, Template};
use crate::provider::Encoder;
use crate::store::{PromptEvidence, PromptRecord};

/// A prompt version, ready.
pub(super) struct Recipe {
    /// `NAME@VERSION`.
    pub(super) name: String,
    pub(super) model: String,
    pub(super) endpoint: Endpoint,
    pub(super) max_tokens: Option<u32>,
    pub(super) in_words_from_ms: Option<i64>,
    pub(super) check: AnswerCheck,
    pub(super) price: Prices,
    template: Template,
    encoder: Encoder,
    in_words: Option<Encoder>,
}

impl Recipe {
    fn new(evidence: &PromptEvidence, spec: &PromptSpec, parts: TaskParts) -> Self {
        Self {
            name: format!("{}@{}", evidence.name, evidence.version),
            model: spec.model.to_string(),
            endpoint: spec.endpoint,
            max_tokens: spec.max_tokens,
            in_words_from_ms: evidence.in_words_from_ms,
            check: parts.check,
            price: parts.price,
            template: parts.template,
            encoder: parts.encoder,
            in_words: parts.in_words,
        }
    }

    pub(super) fn render(&self, cells: &str) -> Result<Vec<Message>, RenderError> {
        self.template.render(cells)
    }

    /// Writes a body, with the form of its answer asked for in one of the two ways.
    pub(super) fn body(
        &self,
        form: Structured,
        messages: &[Message],
        max_tokens: Option<u32>,
    ) -> Vec<u8> {
        let encoder = match form {
            Structured::Schema => &self.encoder,
            Structured::Words => self.in_words.as_ref().unwrap_or(&self.encoder),
        };
        encoder.body(messages, max_tokens)
    }

    /// The ways in which it can have asked for the form of an answer, first the one that it starts with.
    pub(super) fn forms(&self) -> &'static [Structured] {
        match (&self.in_words, self.in_words_from_ms) {
            (None, _) => &[Structured::Words],
            (Some(_), None) => &[Structured::Schema],
            (Some(_), Some(_)) => &[Structured::Schema, Structured::Words],
        }
    }
}

/// All prompts on record, by id.
pub(super) struct Recipes {
    known: HashMap<i64, Recipe>,
}

/// Makes the parts of a prompt, or says why it cannot be used.
pub type MakeParts<'a> = dyn Fn(&PromptRecord) -> Result<TaskParts, String> + 'a;

impl Recipes {
    /// Reads all prompts, and finds what is wrong with them.
    pub(super) fn read(
        prompts: &[PromptEvidence],
        make: &MakeParts<'_>,
        findings: &mut Findings,
    ) -> Self {
        let mut known = HashMap::new();
        for prompt in prompts {
            match recipe(prompt, make) {
                Ok((recipe, wrong)) => {
                    for words in wrong {
                        findings.add(of_prompt(prompt, words));
                    }
                    known.insert(prompt.id, recipe);
                }
                Err(words) => findings.add(of_prompt(prompt, words)),
            }
        }
        versions(prompts, findings);
        Self { known }
    }

    pub(super) fn of(&self, prompt: i64) -> Option<&Recipe> {
        self.known.get(&prompt)
    }
}

fn of_prompt(prompt: &PromptEvidence, message: impl Into<String>) -> Finding {
    let name = format!("{}@{}", prompt.name, prompt.version);
    Finding { prompt: Some(name), ..Finding::new(Check::Prompt, message) }
}

fn recipe(prompt: &PromptEvidence, make: &MakeParts<'_>) -> Result<(Recipe, Vec<String>), String> {
    let spec: PromptSpec = serde_json::from_str(&prompt.spec)
        .map_err(|error| format!("its recipe cannot be read: {error}"))?;
    let record = PromptRecord {
        id: PromptId(prompt.id),
        name: prompt.name.clone(),
        version: u32::try_from(prompt.version).unwrap_or_default(),
        spec: spec.clone(),
        created_at: UnixMs(prompt.created_at_ms),
        is_live: prompt.retired_at_ms.is_none(),
        asks_in_words: prompt.in_words_from_ms.is_some(),
        requests: 0,
    };
    let mut wrong = Vec::new();
    let columns = [
        ("model", prompt.model == spec.model.to_string()),
        ("endpoint", prompt.endpoint == spec.endpoint.as_str()),
        ("source", prompt.source == spec.source),
    ];
    let others = columns.into_iter().filter(|(_, is_same)| !is_same);
    wrong.extend(others.map(|(name, _)| format!("its {name} is not the one of its recipe")));
    if !is_of_its_text(&spec) {
        wrong.push("its recipe is not the one that its text gives".to_owned());
    }
    let parts = make(&record)?;
    Ok((Recipe::new(prompt, &spec, parts), wrong))
}

/// Reads the text again with all that the command line may have said beside it. A text that this version refuses
/// says nothing of the one that took it.
fn is_of_its_text(spec: &PromptSpec) -> bool {
    let mut schema = |_: &str| match &spec.answer {
        AnswerFormat::Schema(schema) => Ok(schema.to_string()),
        AnswerFormat::Text | AnswerFormat::Choices(_) => Err("there is none".to_owned()),
    };
    let mut is_read = false;
    for base_url in [BaseUrl::Own, BaseUrl::Custom] {
        for max_tokens in [None, spec.max_tokens] {
            let defaults = PromptDefaults {
                model: Some(spec.model.clone()),
                max_tokens,
                base_url,
                structured: spec.structured,
            };
            let Ok(parsed) = prompt_file::parse(&spec.source, &defaults, &mut schema) else {
                continue;
            };
            is_read = true;
            if parsed.spec == *spec {
                return true;
            }
        }
    }
    !is_read
}

/// Checks that each name has versions 1, 2, 3 and so on, each retired when the next one came.
fn versions(prompts: &[PromptEvidence], findings: &mut Findings) {
    let mut last: HashMap<&str, &PromptEvidence> = HashMap::new();
    for prompt in prompts {
        let before = last.insert(&prompt.name, prompt);
        let wanted = before.map_or(1, |before| before.version.saturating_add(1));
        if prompt.version != wanted {
            let words =
                format!("it has version {}, and the one before it {}", prompt.version, wanted - 1);
            findings.add(of_prompt(prompt, words));
        }
        if let Some(before) =
            before.filter(|before| before.retired_at_ms != Some(prompt.created_at_ms))
        {
            findings.add(of_prompt(before, "it was not retired when the next version came"));
        }
    }
    for newest in last.into_values().filter(|newest| newest.retired_at_ms.is_some()) {
        findings.add(of_prompt(newest, "it is retired, and there is no newer version"));
    }
}
