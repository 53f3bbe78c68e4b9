//! What requests would take, in tokens and money, guessed from the first of those that are due.

use crate::cli::failure::Failure;
use crate::domain::{NanoUsd, Price, RequestId, RowId, Structured, Usage};
use crate::engine::{TaskParts, message_tokens, overhead_tokens};
use crate::machine::packing::Size;
use crate::machine::request::{Due, Facts, Policy, due};
use crate::provider::batch::input_line_bytes;
use crate::store::{DueRequest, PromptRecord, Store, StoreError};

/// Rows that the estimate is made from.
const SAMPLE: usize = 100;
/// Requests read at a time in search of such that are due.
const PAGE: u32 = 500;
/// Pages after which the search is given up.
const PAGES: usize = 20;
/// Output tokens of an answer that nothing is known about.
const UNKNOWN_OUTPUT: u64 = 50;
/// The `custom_id` of a line in a batch's input file: a token, a dash and the number of an attempt.
const CUSTOM_ID_BYTES: u64 = 20 + 1 + 8;

/// What is known of a prompt's requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    rendered: u64,
    /// Of the messages: what is mostly billed.
    input_tokens: u64,
    /// With the form of the answer, as a run measures the lines of a batch.
    line_tokens: u64,
    line_bytes: u64,
    /// Of one answer.
    output: u64,
    /// The most that one answer can have; `None` where no limit is set.
    most_output: Option<u64>,
    /// Whether the output is a guess and not an average of answers.
    pub(super) is_guess: bool,
    price: Option<Price>,
    batch_price: Option<Price>,
}

/// What requests may cost; `None` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) about: Option<NanoUsd>,
    /// If nothing has to be tried again.
    pub(crate) most: Option<NanoUsd>,
}

impl Cost {
    pub(super) const NOTHING: Self = Self { about: Some(NanoUsd(0)), most: Some(NanoUsd(0)) };

    pub(super) fn and(self, other: Self) -> Self {
        let sum = |a: Option<NanoUsd>, b: Option<NanoUsd>| a.zip(b).map(|(a, b)| a + b);
        Self { about: sum(self.about, other.about), most: sum(self.most, other.most) }
    }
}

impl Sample {
    /// Looks at the first rows of a prompt that are due.
    pub(super) fn of(
        store: &Store,
        prompt: &PromptRecord,
        (parts, policy): (&TaskParts, Policy),
    ) -> Result<Self, Failure> {
        let prices = parts.price;
        let average = store.average_output_tokens(prompt.id)?;
        let most_output = prompt.spec.max_tokens.map(u64::from);
        let mut sample = Self {
            output: average.unwrap_or(UNKNOWN_OUTPUT).min(most_output.unwrap_or(u64::MAX)),
            most_output,
            is_guess: average.is_none(),
            price: prices.realtime,
            batch_price: prices.batch,
            ..Self::default()
        };
        let in_words = parts.in_words.as_ref().filter(|_| prompt.asks_in_words);
        let form = match in_words.is_some() || parts.in_words.is_none() {
            true => Structured::Words,
            false => Structured::Schema,
        };
        let encoder = in_words.unwrap_or(&parts.encoder);
        let overhead = overhead_tokens(encoder, form);
        for row in due_rows(store, prompt, policy, SAMPLE)? {
            let Ok(messages) = parts.template.render(&row.cells) else { continue };
            let body = encoder.body(&messages, prompt.spec.max_tokens);
            sample.rendered += 1;
            sample.input_tokens +=
                overhead_tokens(encoder, Structured::Words) + message_tokens(&messages);
            sample.line_tokens += overhead + message_tokens(&messages);
            sample.line_bytes +=
                CUSTOM_ID_BYTES + input_line_bytes("", prompt.spec.endpoint, &body);
        }
        Ok(sample)
    }

    /// Returns the size of one line in a batch's input file.
    pub(super) fn line(&self) -> Size {
        let each = |sum: u64| sum.div_ceil(self.rendered.max(1));
        Size { bytes: each(self.line_bytes), tokens: each(self.line_tokens) }
    }

    /// Returns the input tokens of so many requests.
    pub(super) fn input(&self, requests: u64) -> u64 {
        let sum = u128::from(self.input_tokens) * u128::from(requests);
        u64::try_from(sum / u128::from(self.rendered.max(1))).unwrap_or(u64::MAX)
    }

    /// Returns the output tokens of so many requests.
    pub(super) fn output(&self, requests: u64) -> u64 {
        self.output.saturating_mul(requests)
    }

    /// Returns the most output tokens that so many requests can have; `None` where no limit is set.
    pub(super) fn most_output(&self, requests: u64) -> Option<u64> {
        self.most_output.map(|most| most.saturating_mul(requests))
    }

    /// Returns what so many requests cost by calls.
    pub(super) fn by_calls(&self, requests: u64) -> Cost {
        self.cost(self.price, requests)
    }

    /// Returns what so many requests cost in batches.
    pub(super) fn in_batches(&self, requests: u64) -> Cost {
        self.cost(self.batch_price, requests)
    }

    fn cost(&self, price: Option<Price>, requests: u64) -> Cost {
        if requests == 0 {
            return Cost::NOTHING;
        }
        let input = self.input(requests);
        let usage = |output| Usage { input, output, ..Usage::default() };
        let of = |output| price.map(|price| price.of_sum(usage(output), requests));
        Cost { about: of(self.output(requests)), most: self.most_output(requests).and_then(of) }
    }
}

/// Returns the first rows that are due for a prompt, new ones first.
pub(super) fn due_rows(
    store: &Store,
    prompt: &PromptRecord,
    policy: Policy,
    limit: usize,
) -> Result<Vec<DueRequest>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut found = store.unasked_rows(prompt.id, RowId(0), limit as u32)?;
    let mut after = RequestId(0);
    for _ in 0..PAGES {
        if !found.is_empty() {
            break;
        }
        let page = store.open_requests(prompt.id, after, PAGE)?;
        let Some(last) = page.last().and_then(|due| due.existing.as_ref()) else { break };
        after = last.id;
        found.extend(page.into_iter().filter(|request| is_due(prompt, request, policy)));
    }
    found.truncate(limit);
    Ok(found)
}

fn is_due(prompt: &PromptRecord, request: &DueRequest, policy: Policy) -> bool {
    request.existing.as_ref().is_none_or(|existing| {
        let max_tokens = existing.max_tokens.or(prompt.spec.max_tokens);
        let facts =
            Facts { state: existing.state, attempts_used: existing.attempts_used, max_tokens };
        matches!(due(facts, policy), Due::Yes { .. })
    })
}
