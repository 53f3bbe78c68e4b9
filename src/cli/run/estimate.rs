//! What batches that go on may cost.

use crate::cli::prices::PriceBook;
use crate::domain::{ModelName, NanoUsd, Usage};
use crate::store::{BatchRecord, Store, StoreError};

/// Output tokens of an answer that nothing is known about.
const UNKNOWN_OUTPUT: u64 = 50;

/// Guesses what all answers of these batches cost together; `None` where a price is not known.
pub(super) fn of_batches(
    store: &Store,
    batches: &[&BatchRecord],
    book: &PriceBook,
) -> Result<Option<NanoUsd>, StoreError> {
    let mut sum = NanoUsd(0);
    for batch in batches {
        let price = ModelName::parse(&batch.new.model).and_then(|model| book.of(&model).batch);
        let Some(price) = price else { return Ok(None) };
        let mut each = None;
        for prompt in store.prompts_of_batch(batch.id)? {
            each = each.max(store.average_output_tokens(prompt)?);
        }
        let output = each.unwrap_or(UNKNOWN_OUTPUT) * batch.requests;
        let usage = Usage { input: batch.tokens, output, ..Usage::default() };
        sum += price.of_sum(usage, batch.requests);
    }
    Ok(Some(sum))
}
