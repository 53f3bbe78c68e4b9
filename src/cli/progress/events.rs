//! What a script reads of a run: one JSON object an event.

use serde_json::{Value, json};

use crate::domain::{Event, HowEnded, NanoUsd, Outcome, Problem, State};

/// Returns an event as one JSON object.
pub(super) fn as_json(event: &Event) -> Value {
    match event {
        Event::Started { run, due, answered, in_batches } => json!({
            "event": "started", "run": run, "due": due, "answered": answered, "in_batches": in_batches,
        }),
        Event::InDoubt { requests, is_held } => {
            json!({"event": "in_doubt", "requests": requests, "held": is_held})
        }
        Event::Settled {
            position,
            prompt,
            attempt,
            route,
            outcome,
            error,
            took,
            usage,
            cost,
            is_retried,
        } => json!({
            "event": "settled", "position": position, "prompt": prompt, "attempt": attempt,
            "route": route.as_str(), "outcome": outcome.as_str(),
            "error_class": match outcome { Outcome::Failed(class) => Some(class.as_str()), _ => None },
            "error": error, "took_ms": took.as_millis() as u64,
            "tokens": usage, "cost_usd": cost.map(NanoUsd::usd), "retried": is_retried,
        }),
        Event::Shared { position, prompt, state } => json!({
            "event": "shared", "position": position, "prompt": prompt, "state": State::as_str(*state),
        }),
        Event::NotRendered { position, prompt, error } => {
            json!({"event": "not_rendered", "position": position, "prompt": prompt, "error": error})
        }
        Event::Paused { class, pause } => {
            json!({"event": "paused", "error_class": class.as_str(), "pause_ms": pause.as_millis() as u64})
        }
        Event::Canary { position, prompt } => {
            json!({"event": "canary", "position": position, "prompt": prompt})
        }
        Event::Batch(news) => json!({
            "event": "batch", "batch": news.id, "provider_id": news.provider_id,
            "status": news.status.as_str(), "requests": news.requests, "counts": news.counts,
            "answered": news.answered, "due_again": news.due_again, "error": news.error,
        }),
        Event::BatchTrouble { batch, status, error, again_in } => json!({
            "event": "batch_trouble", "batch": batch, "status": status.as_str(), "error": error,
            "again_in_ms": again_in.as_millis() as u64,
        }),
        Event::QueueFull { batch, model, told, limit } => json!({
            "event": "queue_full", "batch": batch, "model": model, "told_tokens": told, "limit_tokens": limit,
        }),
        Event::Oversized { model, limit, policy } => json!({
            "event": "oversized", "model": model, "limit_tokens": limit, "policy": policy.as_str(),
        }),
        Event::BatchesGivenUp { model, batches } => {
            json!({"event": "batches_given_up", "model": model, "batches": batches})
        }
        Event::NoBatchApi { model } => json!({"event": "no_batch_api", "model": model}),
        Event::DeadlinePassed { batches, requests } => {
            json!({"event": "deadline_passed", "batches": batches, "requests": requests})
        }
        Event::AsksInWords { prompt } => json!({"event": "asks_in_words", "prompt": prompt}),
        Event::RecordTrouble { error } => json!({"event": "record_trouble", "error": error}),
        Event::Stopping { why, in_flight } => {
            json!({"event": "stopping", "why": why_word(why), "in_flight": in_flight})
        }
        Event::Finished { how, tally } => json!({
            "event": "finished", "ended": how.as_str(),
            "why": match how { HowEnded::Stopped(why) => Some(why_word(why)), _ => None },
            "sent": tally.sent, "batched": tally.batched, "answered": tally.answered, "shared": tally.shared,
            "failed": tally.failed, "truncated": tally.truncated, "retried": tally.retried, "unrecorded": tally.unrecorded,
            "tokens": tally.usage,
            "cost_usd": (tally.unpriced == 0).then(|| tally.cost.usd()),
        }),
    }
}

fn why_word(why: &Problem) -> &'static str {
    match why {
        Problem::Interrupted => "interrupted",
        Problem::Budget { .. } => "budget",
        Problem::Provider { class, .. }
        | Problem::EveryRequestFails { class, .. }
        | Problem::CanaryRefused { class, .. } => class.as_str(),
        Problem::NoBatchApi { .. } => "no_batch_api",
        Problem::BatchesFail { .. } => "batch_failed",
        Problem::BatchInDoubt { .. } => "batch_in_doubt",
        Problem::BatchUnknown { .. } => "batch_unknown",
        Problem::Record { .. } => "record",
    }
}
