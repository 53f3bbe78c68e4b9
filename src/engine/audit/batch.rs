//! Batches: what they say of themselves, what they were seen in, and what their attempts come to.

use std::collections::HashMap;

use super::finding::{Check, Finding, Findings};
use super::ground::{Bought, Ground, Tally};
use crate::domain::{BatchEnd, BatchStatus, Endpoint, RemoteStatus};
use crate::machine::batch::{BatchMove, next};
use crate::provider::batch::{
    BatchObject, Garbled, attempt_of, batch_object, batch_page, result_line,
};
use crate::store::{BatchEvidence, StatusEvidence, Store, StrayEvidence, Taken, Unpacked};

/// Checks batches against what was counted of their attempts.
pub(super) fn check(
    (batches, statuses): (&[BatchEvidence], &[StatusEvidence]),
    (ground, tally): (&Ground, &Tally),
    findings: &mut Findings,
) {
    let mut seen: HashMap<i64, Vec<&StatusEvidence>> = HashMap::new();
    for status in statuses {
        seen.entry(status.batch_id).or_default().push(status);
    }
    for batch in batches {
        let seen = seen.remove(&batch.id).unwrap_or_default();
        let mut wrong = of_attempts(batch, tally);
        wrong.extend(of_history(batch, &seen));
        wrong.extend(of_replies(batch, &seen));
        for words in wrong {
            findings.add(Finding::new(Check::Batch, words).of_batch(batch.id));
        }
        let times = [
            ("it was planned", Some(batch.planned_at_ms)),
            ("it was created", batch.created_at_ms),
            ("it was last seen", batch.seen_at_ms),
            ("it was collected", batch.collected_at_ms),
        ];
        let of_history = seen.iter().map(|status| ("it was seen", Some(status.at_ms)));
        for (what, at) in
            times.into_iter().chain(of_history).filter_map(|(what, at)| Some((what, at?)))
        {
            if let Some(wrong) = ground.wrong_time(what, at) {
                findings.add(wrong.of_batch(batch.id));
            }
        }
    }
}

fn of_attempts(batch: &BatchEvidence, tally: &Tally) -> Vec<String> {
    let counted = tally.batches.get(&batch.id).copied().unwrap_or_default();
    let mut wrong = Vec::new();
    if counted.places != batch.requests || batch.requests < 1 {
        wrong.push(format!(
            "it says {} requests, and {} have a place in it",
            batch.requests, counted.places
        ));
    }
    if !counted.is_uncertain && counted.line_bytes != batch.input_bytes {
        wrong.push(format!(
            "it says {} bytes of input, and its requests come to {}",
            batch.input_bytes, counted.line_bytes
        ));
    }
    if batch.estimated_tokens < 0 {
        wrong.push("its tokens are guessed to be below zero".to_owned());
    }
    if batch.status == BatchStatus::Collected.as_str() && counted.open > 0 {
        wrong
            .push(format!("it is collected, and {} of its requests have no outcome", counted.open));
    }
    if let Some((_, promised_at_ms, run)) = counted.first {
        if promised_at_ms != batch.planned_at_ms {
            wrong.push("it was not planned when its first request was promised".to_owned());
        }
        if run != batch.run_id {
            wrong.push(format!(
                "it says run {}, and its first request is of run {run}",
                batch.run_id
            ));
        }
    }
    wrong
}

/// Walks through the statuses that it was seen in.
fn of_history(batch: &BatchEvidence, seen: &[&StatusEvidence]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut status = BatchStatus::Planned;
    let mut ended = None;
    let mut times = HashMap::new();
    for step in seen {
        let Some(after) = BatchStatus::parse(&step.status) else {
            wrong.push(format!("it was seen in a status that we do not know ({})", step.status));
            continue;
        };
        if !MOVES.iter().any(|event| next(status, *event) == Ok(after)) {
            wrong.push(format!("it went from {status} to {after}, which no batch does"));
        }
        status = after;
        ended = after.end().or(ended);
        times.insert(after, step.at_ms);
    }
    if batch.status != status.as_str() {
        wrong.push(format!("it says {}, and was last seen in {status}", batch.status));
    }
    if batch.ended.as_deref() != ended.map(BatchEnd::as_str) {
        let ended = ended.map_or("not at all", BatchEnd::as_str);
        wrong.push(format!("it says that it ended otherwise than it was seen to ({ended})"));
    }
    let of = |status| times.get(&status).copied();
    if batch.collected_at_ms != of(BatchStatus::Collected) {
        wrong.push("it was not collected when it says so".to_owned());
    }
    if batch.created_at_ms != of(BatchStatus::Created) {
        wrong.push("it was not created when it says so".to_owned());
    }
    wrong
}

const MOVES: [BatchMove; 16] = [
    BatchMove::Upload,
    BatchMove::Uploaded,
    BatchMove::Create,
    BatchMove::Created,
    BatchMove::Refused,
    BatchMove::Dropped,
    BatchMove::Collect,
    BatchMove::Collected,
    BatchMove::Seen(RemoteStatus::Validating),
    BatchMove::Seen(RemoteStatus::InProgress),
    BatchMove::Seen(RemoteStatus::Finalizing),
    BatchMove::Seen(RemoteStatus::Cancelling),
    BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Completed)),
    BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Failed)),
    BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Expired)),
    BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Cancelled)),
];

/// Reads again what the provider said.
fn of_replies(batch: &BatchEvidence, seen: &[&StatusEvidence]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told: Option<BatchObject> = None;
    for step in seen {
        let Some(reply) = &step.reply else { continue };
        let Some(object) = told_of(batch, reply) else {
            wrong.push(format!("what the provider said of it as {} cannot be read", step.status));
            continue;
        };
        if batch.provider_id.as_deref() != Some(&object.id) {
            wrong.push("the provider spoke of another batch".to_owned());
        }
        if object.token.as_ref().is_some_and(|token| *token != batch.token) {
            wrong.push("the provider spoke of a batch with another token".to_owned());
        }
        if !is_seen_as(&step.status, object.status) {
            wrong.push(format!(
                "it was put down as {}, and the provider said otherwise",
                step.status
            ));
        }
        told = Some(match told {
            None => object,
            Some(before) => BatchObject {
                output_file_id: object.output_file_id.or(before.output_file_id),
                error_file_id: object.error_file_id.or(before.error_file_id),
                expires_at: object.expires_at.or(before.expires_at),
                input_file_id: object.input_file_id.or(before.input_file_id),
                ..object
            },
        });
    }
    let Some(told) = told else { return wrong };
    let is_over = batch.ended.is_some();
    let is_other_file = |ours: &Option<String>, theirs: &Option<String>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours != theirs,
        // What was seen in a look that was no news is not kept, but for the last one.
        (Some(_), None) => is_over,
        (None, Some(_)) => true,
        (None, None) => false,
    };
    let pairs = [
        ("output file", is_other_file(&batch.output_file_id, &told.output_file_id)),
        ("error file", is_other_file(&batch.error_file_id, &told.error_file_id)),
        (
            "input file",
            told.input_file_id.is_some()
                && batch.input_file_id.is_some()
                && told.input_file_id != batch.input_file_id,
        ),
        ("end of its window", told.expires_at.is_some_and(|at| batch.expires_at_ms != Some(at.0))),
        (
            "counts",
            is_over
                && told.counts.is_some_and(|counts| {
                    (batch.completed_requests, batch.failed_requests)
                        != (i64::try_from(counts.completed).ok(), i64::try_from(counts.failed).ok())
                }),
        ),
    ];
    let others = pairs.into_iter().filter(|(_, is_other)| *is_other);
    wrong.extend(others.map(|(name, _)| format!("its {name} is not what the provider said")));
    wrong
}

/// Finds what a reply says of a batch. One that was found in a list once stood on record with all of the list.
fn told_of(batch: &BatchEvidence, reply: &[u8]) -> Option<BatchObject> {
    let is_it = |object: &BatchObject| {
        Some(&object.id) == batch.provider_id.as_ref()
            || object.token.as_ref() == Some(&batch.token)
    };
    let in_list = || {
        let page = batch_page(reply).ok()?;
        page.items.into_iter().map(|item| item.object).find(is_it)
    };
    batch_object(reply).ok().or_else(in_list)
}

/// Says whether a status is put down for what the provider said. A batch that was just created, and one that is
/// completed without results so far, are put down as something of ours.
fn is_seen_as(status: &str, told: RemoteStatus) -> bool {
    match BatchStatus::parse(status) {
        Some(BatchStatus::Created) => true,
        Some(BatchStatus::Finalizing) if told == RemoteStatus::Ended(BatchEnd::Completed) => true,
        Some(status) => next(BatchStatus::Created, BatchMove::Seen(told)) == Ok(status),
        None => false,
    }
}

/// Checks the lines that settled nothing. Returns what was paid for with them.
pub(super) fn strays(
    store: &Store,
    ground: &Ground,
    (unpacked, findings): (&mut Unpacked, &mut Findings),
) -> (u64, Bought) {
    let mut paid = Bought::default();
    let mut found = 0;
    let mut plain = Vec::new();
    store.each_stray(&mut |taken| {
        let stray = match taken {
            Taken::Read(stray) => stray,
            Taken::Unreadable { id, why } => {
                let words = format!("stray line {} cannot be read: {why}", id.unwrap_or_default());
                return findings.add(Finding::new(Check::File, words));
            }
        };
        found += 1;
        let mut wrong = Vec::new();
        let size =
            stray.reply.plain_bytes.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        match unpacked.unpack((&stray.reply.bytes, None), size, &mut plain) {
            Ok(()) if plain.len() == size => {
                wrong.extend(read(&stray, &plain, (ground, store), &mut paid))
            }
            Ok(()) => wrong.push(format!("it has {} bytes, and {size} are on record", plain.len())),
            Err(words) => wrong.push(words),
        }
        if stray.is_taken {
            wrong.push("an attempt has the same place in the results".to_owned());
        }
        for words in wrong {
            let words = format!(
                "line {} of the {} file, which settled nothing: {words}",
                stray.number, stray.file
            );
            findings.add(Finding::new(Check::Stray, words).of_batch(stray.batch_id));
        }
        if let Some(wrong) =
            ground.wrong_time("a line that settled nothing was found", stray.found_at_ms)
        {
            findings.add(wrong.of_batch(stray.batch_id));
        }
    });
    (found, paid)
}

fn read(
    stray: &StrayEvidence,
    plain: &[u8],
    (ground, store): (&Ground, &Store),
    paid: &mut Bought,
) -> Option<String> {
    let batch = ground.batches.get(&stray.batch_id)?;
    let line = result_line(batch.endpoint.unwrap_or(Endpoint::ChatCompletions), plain);
    let (custom_id, usage) = match &line {
        Ok(line) => (line.custom_id.as_deref(), line.reading.usage),
        Err(Garbled { custom_id }) => (custom_id.as_deref(), None),
    };
    if usage.is_some_and(|usage| usage.output > 0) {
        // Whose it is decides what it cost, and that may be nobody we know.
        paid.add(Bought { requests: 0, attempts: 1, cost_nanousd: 0, unpriced: 1 });
    }
    let attempt = custom_id.and_then(|custom_id| attempt_of(custom_id, &batch.token));
    let is_ours = attempt.is_some_and(|attempt| store.is_in_batch((stray.batch_id, attempt.0)));
    let wanted = match (is_ours, &line) {
        (true, _) => "doubled",
        (false, Ok(_)) => "unknown",
        (false, Err(_)) => "garbled",
    };
    (stray.why != wanted).then(|| format!("it says {}, and is {wanted}", stray.why))
}
