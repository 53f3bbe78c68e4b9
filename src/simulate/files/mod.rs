//! `/v1/files`: uploads, lists, looks, downloads and removals.

mod form;
mod kept;
mod shelf;

use std::sync::Arc;

use http::header::CONTENT_DISPOSITION;
use http::{Request, StatusCode};
use serde_json::{Value, json};

pub(super) use kept::Kept;
pub(super) use shelf::{BATCH_LIFETIME_S, NewFile, Shelf, StoredFile};

use super::check::storage;
use super::fault::{Fault, Moment};
use super::ledger::lock;
use super::page::Turn;
use super::reply::{INVALID, Pace, Problem, Reply};
use super::service::{State, Stop};
use crate::engine::SentBody;

/// The most files that a list without a limit has.
const LIST_LIMIT: usize = 10_000;
/// The purposes for which a file cannot be downloaded again.
const KEPT_BACK: [&str; 4] = ["assistants", "user_data", "vision", "evals"];
/// The purpose of the files that batches leave.
pub(super) const RESULTS: &str = "batch_output";

/// Answers `POST /v1/files`.
pub(super) async fn upload(state: &State, request: Request<SentBody>) -> Result<Reply, Stop> {
    let (head, incoming) = request.into_parts();
    state.check_key(&head.headers)?;
    let new = form::read(&state.settings, &head.headers, incoming).await?;
    let fault = state.draw_fault(Moment::Upload, &new.bytes);
    if fault == Some(Fault::UploadServerError) {
        return Err(Problem::server_error().into());
    }
    state.ledger.count_file();
    let file = lock(&state.files).add(new, state.now());
    if fault == Some(Fault::UploadLost) {
        return Err(Stop::Gone);
    }
    Ok(Reply::json(StatusCode::OK, &file.write()))
}

/// Answers `GET /v1/files`.
pub(super) fn list(state: &State, query: &str) -> Result<Reply, Problem> {
    let query = storage::read_file_query(query)?;
    let purpose = query.get("purpose").and_then(Value::as_str);
    let shelf = lock(&state.files);
    let fits = |file: &&Arc<StoredFile>| purpose.is_none_or(|word| word == file.purpose);
    let entry = |file: &Arc<StoredFile>| (file.id.clone(), Arc::clone(file));
    let all = shelf.all(state.now()).filter(fits).map(entry);
    let turn = Turn::read(&query, LIST_LIMIT);
    let page = if query.get("order").is_some_and(|order| order == "asc") {
        turn.cut(all)
    } else {
        turn.cut(all.rev())
    };
    let page = page.ok_or_else(|| no_file(turn.after.unwrap_or_default(), "after"))?;
    Ok(Reply::json(StatusCode::OK, &page.write(|file| file.write())))
}

/// Answers `GET /v1/files/{id}`.
pub(super) fn get(state: &State, id: &str) -> Result<Reply, Problem> {
    let file = lock(&state.files).get(id, state.now()).ok_or_else(|| no_file(id, "id"))?;
    Ok(Reply::json(StatusCode::OK, &file.write()))
}

/// Answers `DELETE /v1/files/{id}`.
pub(super) fn delete(state: &State, id: &str) -> Result<Reply, Problem> {
    if lock(&state.files).remove(id, state.now()) {
        return Ok(Reply::json(
            StatusCode::OK,
            &json!({"object": "file", "id": id, "deleted": true}),
        ));
    }
    Err(no_file(id, "id"))
}

/// Answers `GET /v1/files/{id}/content`.
pub(super) fn content(state: &State, id: &str) -> Result<Reply, Problem> {
    let file = lock(&state.files).get(id, state.now()).ok_or_else(|| no_file(id, "id"))?;
    if KEPT_BACK.contains(&file.purpose.as_str()) {
        let told = format!("Not allowed to download files of purpose: {}", file.purpose);
        return Err(Problem::new(StatusCode::BAD_REQUEST, INVALID, None, told));
    }
    let is_result = file.purpose == RESULTS;
    let fault = is_result.then(|| state.draw_fault(Moment::Content, id.as_bytes())).flatten();
    if fault == Some(Fault::ContentNotFound) {
        return Err(no_file(id, "id"));
    } else if fault == Some(Fault::ContentServerError) {
        return Err(Problem::server_error());
    }
    let reply = Reply::typed(StatusCode::OK, "application/octet-stream", file.bytes.open());
    let named = format!("attachment; filename=\"{}\"", file.filename.replace(['"', '\\'], "_"));
    let pace = if fault == Some(Fault::ContentCut) { Pace::Cut } else { Pace::Whole };
    Ok(Reply { pace, ..reply }.with(CONTENT_DISPOSITION, &named))
}

/// Makes the 404 for a file that is not there, named in `param`.
pub(super) fn no_file(id: &str, param: &str) -> Problem {
    let id: String = id.chars().take(128).collect();
    let told = format!("No such File object: {id}");
    let problem = Problem::new(StatusCode::NOT_FOUND, INVALID, None, told);
    Problem { param: Some(param.to_owned()), ..problem }
}
