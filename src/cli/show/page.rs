//! The page that a person reads.

use serde_json::{Map, Value};

use super::{InBatch, PromptTrail, Trail};
use crate::cli::batches::{is_open, standing, times};
use crate::cli::page::{Page, hex, short};
use crate::cli::text::{duration, moment, thousands, tokens};
use crate::domain::{Fingerprint, Outcome, State, UnixMs};
use crate::machine::plan::Liveness;
use crate::store::{TrailAttempt, TrailRow};

/// As wide as the longest label of ours; a longer name of a column goes its own way.
const LABELS: usize = 11;

/// Returns the whole page.
pub(super) fn page(trail: &Trail) -> String {
    let mut page = Page::new(LABELS);
    row(&mut page, &trail.row);
    for one in &trail.prompts {
        page.gap();
        prompt(&mut page, one, trail);
    }
    page.into_text()
}

fn row(page: &mut Page, row: &TrailRow) {
    page.indent(0);
    page.line(&format!("row #{}", row.position));
    page.indent(2);
    page.field("key", &short(&row.key));
    page.field("version", &row.version.to_string());
    let sha256 = hex(&row.source_sha256[..6]);
    page.field("from", &format!("{}, line {} (sha256 {sha256}…)", short(&row.source), row.line));
    page.field("cells", "");
    page.indent(4);
    for (column, cell) in cells(row) {
        page.field(&short(&column), &short(&cell));
    }
}

/// Returns the cells as a person would write them; what is not text as JSON.
fn cells(row: &TrailRow) -> Vec<(String, String)> {
    let cells: Map<String, Value> = match serde_json::from_str(&row.cells) {
        Ok(cells) => cells,
        Err(_) => return vec![("unreadable".to_owned(), row.cells.clone())],
    };
    let plain = |cell: Value| match cell {
        Value::String(text) => text,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => other.to_string(),
    };
    cells.into_iter().map(|(column, cell)| (column, plain(cell))).collect()
}

fn prompt(page: &mut Page, one: &PromptTrail, trail: &Trail) {
    let spec = &one.prompt.spec;
    page.indent(0);
    let retired = if one.prompt.is_live { "" } else { ", replaced by a later one" };
    page.line(&format!(
        "prompt {}, version {}{retired}",
        short(&one.prompt.name),
        one.prompt.version
    ));
    page.indent(2);
    page.field("model", &format!("{}, {}", short(&spec.model.to_string()), spec.endpoint.as_str()));
    page.field("state", &state(one));
    if let Some(request) = &one.request {
        if let Some(error) = &request.error {
            page.field("error", &short(error));
        }
        page.field("request", &request.id.to_string());
        match request.fingerprint {
            Some(fingerprint) => page.field("fingerprint", &fingerprint.to_string()),
            None => page.field("fingerprint", "none: the request could not be made"),
        }
    }
    for attempt in one.attempts() {
        page.indent(2);
        self::attempt(page, one, attempt, trail);
    }
    if let Some(answer) = one.answer() {
        page.indent(2);
        page.line("answer");
        page.indent(4);
        page.quote(answer);
    }
}

fn state(one: &PromptTrail) -> String {
    match one.state {
        State::Pending if one.request.is_none() => "pending: nothing was sent yet".to_owned(),
        State::Pending if one.attempts().is_empty() => "pending: nothing was sent yet".to_owned(),
        State::Pending => "pending: to be sent again".to_owned(),
        State::InFlight => "in flight".to_owned(),
        State::InBatch => "in a batch".to_owned(),
        State::InDoubt => {
            "in doubt: it may have been sent (and billed), and no reply is on record".to_owned()
        }
        State::Answered => "answered".to_owned(),
        State::Truncated => "truncated: the reply was cut by the token limit".to_owned(),
        State::Failed(class) => format!("failed ({class})"),
    }
}

fn attempt(page: &mut Page, one: &PromptTrail, attempt: &TrailAttempt, trail: &Trail) {
    page.line(&format!("attempt {}: {}", attempt.number, outcome(attempt, trail.liveness)));
    page.indent(4);
    if let Some(from) = one.shared_from.as_ref().filter(|_| one.is_shared(attempt)) {
        page.field(
            "shared",
            &format!(
                "made for row #{} (key {}), prompt {}, version {}: equal requests are bought once",
                from.position,
                short(&from.key),
                short(&from.prompt),
                from.prompt_version
            ),
        );
    }
    page.field("sent", &sent(attempt));
    if let Some(place) = one.batches.get(&attempt.id) {
        batch(page, place, attempt, trail.now);
    }
    if let Some(body) = &attempt.sent_body {
        let own = Fingerprint::of(body);
        page.field("body", &format!("its own, with another token limit: {own}"));
    }
    if let Some((at, _)) = attempt.settled {
        let took = duration(at.since(attempt.promised_at));
        page.field("settled", &format!("{}, after {took}", moment(at)));
    }
    if let Some(error) = &attempt.error {
        page.field("error", &short(error));
    }
    for (label, text) in provider(attempt) {
        page.field(label, &text);
    }
    if let Some(usage) = attempt.usage {
        page.field("tokens", &tokens(usage));
        let cost = attempt.cost.map_or("of unknown price".to_owned(), |cost| cost.to_string());
        page.field("cost", &cost);
    }
}

/// Says which batch an attempt is in, and where its request and its result stand in the batch's files.
fn batch(page: &mut Page, place: &InBatch, attempt: &TrailAttempt, now: UnixMs) {
    let batch = &place.batch;
    let unmade = if is_open(batch) { "not made yet" } else { "never made" };
    let id = batch.provider_id.as_deref().map_or_else(|| unmade.to_owned(), short);
    let error = match &batch.error {
        Some(error) => format!(": {}", short(error)),
        None => String::new(),
    };
    let stands = format!("{} ({id}), {}, {}", batch.id, standing(batch), times(batch, now));
    page.field("batch", &format!("{stands}{error}"));
    page.field("custom id", &place.custom_id);
    let named = |id: &Option<String>| match id {
        Some(id) => format!(" ({})", short(id)),
        None => String::new(),
    };
    page.field(
        "asked in",
        &format!(
            "line {} of the input file{}",
            thousands(place.input_line),
            named(&batch.input_file_id)
        ),
    );
    if let Some((file, line)) = &attempt.result_place {
        let id = if file == "error" { &batch.error_file_id } else { &batch.output_file_id };
        page.field(
            "came in",
            &format!("line {} of the {file} file{}", thousands(*line), named(id)),
        );
    }
}

fn outcome(attempt: &TrailAttempt, liveness: Liveness) -> String {
    match attempt.settled {
        Some((_, Outcome::Answered)) => "answered".to_owned(),
        Some((_, Outcome::Truncated)) => "truncated".to_owned(),
        Some((_, Outcome::Failed(class))) => format!("failed ({class})"),
        Some((_, Outcome::InDoubt)) => {
            "in doubt, for whoever sent it stopped before a reply was recorded".to_owned()
        }
        None if attempt.batch.is_some() => "waits for its batch".to_owned(),
        None => match liveness {
            Liveness::Running => "under way".to_owned(),
            Liveness::Idle => "no outcome, for whoever sent it is gone".to_owned(),
        },
    }
}

fn sent(attempt: &TrailAttempt) -> String {
    let route = match attempt.batch {
        Some(batch) => format!("in batch {batch}"),
        None => attempt.route.clone(),
    };
    let limit =
        attempt.max_tokens.map(|tokens| format!(", max_tokens {}", thousands(tokens.into())));
    format!("{}, {route}{}", moment(attempt.promised_at), limit.unwrap_or_default())
}

/// Returns what the provider said, as far as it did.
fn provider(attempt: &TrailAttempt) -> Vec<(&'static str, String)> {
    let status = attempt.status_code.map(|code| code.to_string());
    let reply =
        attempt.reply.as_ref().map(|reply| format!("{} bytes", thousands(reply.len() as u64)));
    let fields = [
        ("status code", status),
        ("provider id", attempt.provider_request_id.as_deref().map(short)),
        ("served by", attempt.served_model.as_deref().map(short)),
        ("finished", attempt.finish_reason.as_deref().map(short)),
        ("reply", reply),
    ];
    fields.into_iter().filter_map(|(label, text)| text.map(|text| (label, text))).collect()
}
