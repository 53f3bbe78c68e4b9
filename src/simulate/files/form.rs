//! The form of an upload: `multipart/form-data`, read part by part as it comes in.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde_json::{Map, Value, json};

use super::shelf::{BATCH_LIFETIME_S, NewFile};
use crate::engine::SentBody;
use crate::simulate::Settings;
use crate::simulate::body;
use crate::simulate::check::storage;
use crate::simulate::reply::{INVALID, Problem};
use crate::simulate::service::Stop;

/// The largest file of any purpose.
const FILE_BYTES: u64 = 512_000_000;
/// The largest of the other fields.
const FIELD_BYTES: u64 = 4096;

/// What was sent in the part `file`.
struct Sent {
    filename: String,
    bytes: Bytes,
}

/// Reads an upload, and refuses what OpenAI would not take.
pub(super) async fn read(
    settings: &Settings,
    headers: &HeaderMap,
    incoming: SentBody,
) -> Result<NewFile, Stop> {
    body::check_type(headers, "multipart/form-data")?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default());
    let boundary = boundary.map_err(|_| unreadable())?;
    let sizes = SizeLimit::new().per_field(FIELD_BYTES).for_field("file", FILE_BYTES);
    let constraints = Constraints::new().size_limit(sizes);
    let mut parts = Multipart::with_constraints(incoming.into_data_stream(), boundary, constraints);
    let (mut form, mut sent) = (Map::new(), None);
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        let name = part.name().unwrap_or_default().to_owned();
        match (name.as_str(), part.file_name().map(str::to_owned)) {
            ("file", Some(filename)) if sent.is_none() => {
                let bytes = read_file(part, announced(headers)).await?;
                check_size(settings, &form, bytes.len())?;
                sent = Some(Sent { filename, bytes });
                form.insert(name, Value::Null);
            }
            _ => insert(&mut form, &name, &part.text().await.map_err(broken)?)?,
        }
    }
    Ok(accept(settings, &Value::Object(form), sent)?)
}

/// Returns how long the whole request says it is.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Reads a file into one piece; memory is taken once where the length was announced.
async fn read_file(mut part: Field<'_>, announced: usize) -> Result<Bytes, Stop> {
    let mut bytes = BytesMut::with_capacity(announced.min(FILE_BYTES as usize));
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Lays a text field into the form: `expires_after[seconds]` stands under `expires_after`.
fn insert(form: &mut Map<String, Value>, name: &str, text: &str) -> Result<(), Problem> {
    let inner = name.strip_prefix("expires_after[").and_then(|rest| rest.strip_suffix(']'));
    let (into, key) = match inner {
        None => (form, name),
        Some(key) => {
            let outer = form.entry("expires_after").or_insert_with(|| json!({}));
            match outer {
                Value::Object(outer) => (outer, key),
                _ => return Err(twice(name)),
            }
        }
    };
    let value = if key == "seconds" { storage::number(text) } else { json!(text) };
    // A text in the place of the file is no file, so that the file is what will be missed.
    if inner.is_none() && key == "file" && !into.contains_key(key) {
        return Ok(());
    }
    match into.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(twice(name)),
    }
}

fn accept(settings: &Settings, form: &Value, sent: Option<Sent>) -> Result<NewFile, Problem> {
    storage::check_form(form)?;
    let Some(sent) = sent else { return Err(unreadable()) };
    let purpose = form["purpose"].as_str().unwrap_or_default();
    let is_batch = purpose == "batch";
    let ending = Path::new(&sent.filename).extension();
    if is_batch && ending.is_none_or(|ending| ending != "jsonl") {
        let told = "Invalid file format for Batch API. Must be .jsonl";
        return Err(Problem { code: None, ..Problem::invalid("", "", told) });
    }
    check_size(settings, form.as_object().unwrap_or(&Map::new()), sent.bytes.len())?;
    let lifetime_s = form["expires_after"]["seconds"].as_i64();
    Ok(NewFile {
        filename: sent.filename,
        purpose: purpose.to_owned(),
        bytes: sent.bytes,
        lifetime_s: lifetime_s.or(is_batch.then_some(BATCH_LIFETIME_S)),
    })
}

/// Refuses a file for batches that is too large, as soon as it is known to be one.
fn check_size(settings: &Settings, form: &Map<String, Value>, bytes: usize) -> Result<(), Problem> {
    let is_batch = form.get("purpose").is_some_and(|purpose| purpose == "batch");
    if is_batch && bytes as u64 > settings.batch_bytes {
        return Err(Problem {
            message: format!(
                "The file is too large for the Batch API: it has {bytes} bytes, and may have at \
                 most {}.",
                settings.batch_bytes
            ),
            ..body::too_large()
        });
    }
    Ok(())
}

fn twice(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::invalid(&name, "duplicate_parameter", format!("Duplicate parameter: '{name}'."))
}

fn unreadable() -> Problem {
    let told = "We could not parse the multipart form of your request.";
    Problem::new(http::StatusCode::BAD_REQUEST, INVALID, None, told)
}

/// Tells a form that is wrong from a client that left in the middle of it.
fn broken(error: multer::Error) -> Stop {
    match error {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => {
            body::too_large().into()
        }
        multer::Error::StreamReadFailed(_) => Stop::Gone,
        _ => unreadable().into(),
    }
}
