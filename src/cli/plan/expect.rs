//! What one more request of a prompt is expected to take, by what is on file of those before it.
//!
//! A request costs what all its attempts cost until it rests: cut replies that were asked for again with more tokens,
//! answers that did not have their form. So everything here is for a request and not for an attempt. Where nothing
//! is on file it is guessed, and said to be.

use crate::cli::failure::Failure;
use crate::domain::{State, Structured, Usage};
use crate::engine::{Prices, TaskParts};
use crate::machine::tokens::{
    Basis, Calibration, Counted, InputTokens, Memo, Vocabulary, guessed_output,
};
use crate::store::{Attempts, BilledAnswer, Experience, PromptRecord, Store};

/// Answers that a calibration looks at.
const ANSWERS: u32 = 300;
/// Prompts on the same model that are asked where this one has too few answers.
const OTHER_PROMPTS: usize = 3;

/// What one more request is expected to take.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// How its answer's form is asked for.
    pub(super) form: Structured,
    /// Counts its input.
    pub(super) counter: InputTokens,
    pub(super) calibration: Option<Calibration>,
    /// What the input tokens stand on.
    pub(super) basis: Basis,
    /// Output tokens of all its attempts, thoughts included.
    pub(super) output: f64,
    /// Requests at rest that the output is the average of; with none it is a guess.
    pub(super) resolved: u64,
    /// What these came to.
    pub(super) attempts: Attempts,
    /// Attempts that are billed for a request.
    pub(super) billed_each: f64,
    /// Which part of the input the provider has in its cache.
    pub(super) cached: f64,
    /// Which part of it the provider puts there.
    pub(super) written: f64,
    /// Which part of the output is thought.
    pub(super) reasoning: f64,
    pub(super) prices: Prices,
}

impl Expected {
    /// Expects nothing, where nothing is due.
    pub(super) fn nothing(prompt: &PromptRecord, prices: Prices) -> Self {
        Self {
            form: Structured::Words,
            counter: InputTokens::of(&prompt.spec, Structured::Words),
            calibration: None,
            basis: Basis::Estimate,
            output: 0.0,
            resolved: 0,
            attempts: Attempts::default(),
            billed_each: 1.0,
            cached: 0.0,
            written: 0.0,
            reasoning: 0.0,
            prices,
        }
    }

    /// Asks the record.
    pub(super) fn of(
        store: &Store,
        prompt: &PromptRecord,
        parts: &TaskParts,
    ) -> Result<Self, Failure> {
        let form = match parts.in_words.is_none() || prompt.asks_in_words {
            true => Structured::Words,
            false => Structured::Schema,
        };
        let counter = InputTokens::of(&prompt.spec, form);
        let answers = store.billed_answers(prompt.id, ANSWERS)?;
        let mut seen = count(&answers, &counter, parts);
        if !counter.is_exact() && seen.len() < 3 {
            seen.extend(of_other_prompts(store, prompt)?);
        }
        let calibration = Calibration::learn(&seen, counter.is_exact());
        let basis = match (&calibration, counter.is_exact()) {
            (Some(learned), _) => Basis::Calibrated(learned.answers()),
            (None, true) if counter.has_form() => Basis::ExactButForm,
            (None, true) => Basis::Exact,
            (None, false) => Basis::Estimate,
        };
        let experience = store.experience(prompt.id)?;
        let resolved = resolved(&experience);
        let Attempts { billed, usage, .. } = experience.attempts;
        let each = |sum: u64| sum as f64 / resolved.max(1) as f64;
        let is_known = resolved > 0 && billed > 0;
        let part = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        Ok(Self {
            form,
            counter,
            calibration,
            basis,
            output: match is_known {
                true => each(usage.output),
                false => guessed_output(&prompt.spec, form) as f64,
            },
            resolved: if is_known { resolved } else { 0 },
            attempts: experience.attempts,
            billed_each: if is_known { each(billed).max(1.0) } else { 1.0 },
            cached: part(usage.cached, usage.input),
            written: part(usage.cache_write, usage.input),
            reasoning: part(usage.reasoning, usage.output),
            prices: parts.price,
        })
    }

    /// Returns the input tokens that a request of `counted` tokens is billed with, in its first attempt.
    pub(super) fn input(&self, counted: u64) -> u64 {
        self.calibration.map_or(counted, |learned| learned.of(counted))
    }

    /// Returns what `times` requests are expected to use that are counted to `counted` tokens each.
    pub(super) fn usage(&self, counted: u64, times: u64) -> Usage {
        let input = self.input(counted) as f64 * self.billed_each * times as f64;
        let output = self.output * times as f64;
        Usage {
            input: input.round() as u64,
            cached: (input * self.cached).round() as u64,
            cache_write: (input * self.written).round() as u64,
            output: output.round() as u64,
            reasoning: (output * self.reasoning).round() as u64,
        }
    }
}

/// Counts the requests that are at rest and will not be sent again by themselves.
fn resolved(experience: &Experience) -> u64 {
    let rests = |state: &State| match state {
        State::Answered | State::Truncated => true,
        State::Failed(class) => !class.is_retried(),
        State::Pending | State::InFlight | State::InBatch | State::InDoubt => false,
    };
    experience.states.iter().filter(|(state, _)| rests(state)).map(|(_, found)| found).sum()
}

fn count(answers: &[BilledAnswer], counter: &InputTokens, parts: &TaskParts) -> Vec<Counted> {
    let mut memo = Memo::new(counter);
    let mut count = |answer: &BilledAnswer| {
        let messages = parts.template.render(&answer.cells).ok()?;
        Some(Counted { counted: memo.count(&messages), billed: answer.usage.input })
    };
    answers.iter().filter_map(&mut count).collect()
}

/// Counts answers to other prompts on the same model: its vocabulary is the same.
fn of_other_prompts(store: &Store, prompt: &PromptRecord) -> Result<Vec<Counted>, Failure> {
    let mut all = Vec::new();
    let others = store.prompts()?.into_iter().rev();
    let others = others.filter(|other| {
        other.id != prompt.id && other.requests > 0 && other.spec.model == prompt.spec.model
    });
    for other in others.take(OTHER_PROMPTS) {
        let Ok(template) = crate::machine::render::Template::compile(&other.spec) else { continue };
        let form = match other.asks_in_words {
            true => Structured::Words,
            false => other.spec.structured,
        };
        let counter = InputTokens::of(&other.spec, form);
        for answer in store.billed_answers(other.id, ANSWERS)? {
            let Ok(messages) = template.render(&answer.cells) else { continue };
            all.push(Counted { counted: counter.count(&messages), billed: answer.usage.input });
        }
    }
    Ok(all)
}

/// Counts the tokens of a text as the prompt's model does, or nearly.
pub(super) fn text_tokens(prompt: &PromptRecord, text: &str) -> u64 {
    Vocabulary::of(&prompt.spec.model).unwrap_or_default().count(text)
}
