//! What of a run is worth a line of its own, in words.

use std::time::Duration;

use crate::cli::text::{count, duration, one_line, thousands};
use crate::domain::{BatchId, BatchNews, BatchStatus, Event, Oversized, Problem};

/// Returns what is worth a line of its own.
pub(super) fn line(event: &Event) -> Option<String> {
    match event {
        Event::Started { due, answered, in_batches, .. } => {
            Some(started(*due, *answered, *in_batches))
        }
        Event::InDoubt { requests, is_held } => {
            let may = format!(
                "{} may have been sent and have no reply on file",
                count(*requests, "request")
            );
            Some(match is_held {
                true => format!("{may}; held, `overnight retry --in-doubt` makes them due"),
                false => format!("{may}; sent again, they may be billed twice"),
            })
        }
        Event::Paused { class, pause } if *pause >= Duration::from_secs(5) => {
            Some(format!("{class}: pausing for {}", duration(*pause)))
        }
        Event::AsksInWords { prompt } => Some(format!(
            "the server takes no JSON Schema; prompt {prompt} is asked in words from now on"
        )),
        Event::Canary { position, prompt } => Some(format!(
            "row #{position} goes ahead of the first batch of prompt {prompt}, to see whether the provider takes it"
        )),
        Event::Batch(news) if news.is_news => batch(news),
        Event::BatchTrouble { batch, status, error, again_in } => Some(format!(
            "batch {} ({status}): {}; again in {}",
            batch.map_or_else(|| "?".to_owned(), |batch| batch.to_string()),
            one_line(error, 200),
            duration(*again_in)
        )),
        Event::QueueFull { batch, model, told, limit } => {
            Some(queue_full(*batch, (model, *told, *limit)))
        }
        Event::Oversized { model, policy, .. } => Some(format!(
            "not all requests to {model} find room in batches: {}",
            match policy {
                Oversized::Realtime => "the rest goes by calls (`--oversized wait` waits instead)",
                Oversized::Wait => "the rest waits until the queue drains",
                Oversized::Fail => "the rest is not sent (`--oversized fail`)",
            }
        )),
        Event::BatchesGivenUp { model, batches } => Some(format!(
            "{} of {model} in a row brought nothing; what is due goes by calls",
            count(u64::from(*batches), "batch")
        )),
        Event::NoBatchApi { model } => {
            Some(format!("the server has no batches; requests to {model} go by calls"))
        }
        Event::DeadlinePassed { batches, requests } => Some(format!(
            "the deadline has passed: {} with {} cancelled; what is not answered goes by calls",
            count(*batches, "batch"),
            count(*requests, "request")
        )),
        Event::RecordTrouble { error } => {
            Some(format!("the record cannot be written, trying again: {error}"))
        }
        Event::Stopping { why, in_flight } => {
            let waiting = match in_flight {
                0 => String::new(),
                number => format!(
                    "; waiting for {} in flight (Ctrl-C again stops at once)",
                    thousands(*number)
                ),
            };
            Some(match why {
                Problem::Interrupted => format!("interrupted: sending no more{waiting}"),
                // Why is said at the end, and nothing is in flight by then.
                Problem::Budget { .. } => return None,
                Problem::Provider { .. }
                | Problem::EveryRequestFails { .. }
                | Problem::CanaryRefused { .. }
                | Problem::NoBatchApi { .. }
                | Problem::BatchesFail { .. }
                | Problem::BatchInDoubt { .. }
                | Problem::BatchUnknown { .. }
                | Problem::Record { .. } => {
                    format!("stopping{waiting}")
                }
            })
        }
        Event::Paused { .. }
        | Event::Batch(_)
        | Event::Settled { .. }
        | Event::Shared { .. }
        | Event::NotRendered { .. }
        | Event::Finished { .. } => None,
    }
}

fn queue_full(
    batch: Option<BatchId>,
    (model, told, limit): (&str, Option<u64>, Option<u64>),
) -> String {
    let told = match told {
        Some(told) => format!("it lets {} tokens of {model} wait", thousands(told)),
        None => format!("it does not say how many tokens of {model} may wait"),
    };
    let held = match limit {
        Some(limit) => format!("; batches are held to about {} from now on", thousands(limit)),
        None => String::new(),
    };
    let batch = batch.map_or_else(|| "?".to_owned(), |batch| batch.to_string());
    format!("the provider's queue has no room for batch {batch}: {told}{held}")
}

fn started(due: u64, answered: u64, in_batches: u64) -> String {
    let mut parts = Vec::new();
    if due > 0 || in_batches == 0 {
        parts.push(format!("{} to send", count(due, "request")));
    }
    if in_batches > 0 {
        let number = match due {
            0 => count(in_batches, "request"),
            _ => thousands(in_batches),
        };
        parts.push(format!("{number} in batches of earlier runs"));
    }
    if answered > 0 {
        parts.push(format!("{} answered already", thousands(answered)));
    }
    parts.join(", ")
}

/// Returns a line on a batch's new status; steps that follow at once are not worth one.
fn batch(news: &BatchNews) -> Option<String> {
    let mut line = match &news.provider_id {
        Some(provider_id) => format!("batch {} ({provider_id}): ", news.id),
        None => format!("batch {}: ", news.id),
    };
    match news.status {
        BatchStatus::Failed | BatchStatus::Cancelled if news.provider_id.is_none() => {
            let why = news.error.as_deref().unwrap_or("the provider refused it");
            line.push_str(&format!("not created, {}", one_line(why, 200)));
        }
        BatchStatus::Collected if news.provider_id.is_none() => return None,
        BatchStatus::Created => {
            line.push_str(&format!("created with {}", count(news.requests, "request")));
        }
        BatchStatus::Cancelling
        | BatchStatus::Failed
        | BatchStatus::Expired
        | BatchStatus::Cancelled => {
            line.push_str(&news.status.as_str().replace('_', " "));
            if let Some(error) = &news.error {
                line.push_str(&format!(", {}", one_line(error, 200)));
            }
        }
        BatchStatus::Collected => {
            let answered = thousands(news.answered);
            line.push_str(&format!(
                "collected, {answered} of {} answered",
                thousands(news.requests)
            ));
            if news.due_again > 0 {
                line.push_str(&format!(", {} due again", thousands(news.due_again)));
            }
        }
        // The bar counts, and `--json` tells of every step.
        BatchStatus::Planned
        | BatchStatus::Uploading
        | BatchStatus::Validating
        | BatchStatus::InProgress
        | BatchStatus::Finalizing
        | BatchStatus::Completed
        | BatchStatus::Uploaded
        | BatchStatus::Creating
        | BatchStatus::Collecting => return None,
    }
    Some(line)
}
