//! The mock's files and batches: uploads are scanned for their custom ids and forgotten, results are made when asked for.

use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::replies::Replies;

/// A file that was uploaded.
#[derive(Default)]
pub(crate) struct Upload {
    name: String,
    bytes: usize,
    custom_ids: Vec<Box<[u8]>>,
    /// The beginning of a line whose end has not come yet.
    held: Vec<u8>,
}

impl Upload {
    /// Takes the next bytes of the form that a file comes in.
    pub(crate) fn take(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            let mut rest = part;
            let length = rest.skip_until(b'\n').unwrap_or_default();
            let (line, after) = part.split_at(length);
            part = after;
            let is_whole = line.ends_with(b"\n");
            if self.held.is_empty() && is_whole {
                self.line(line);
                continue;
            }
            self.held.extend_from_slice(line);
            if is_whole {
                let whole = std::mem::take(&mut self.held);
                self.line(&whole);
                self.held = whole;
                self.held.clear();
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.starts_with(b"{") {
            self.bytes += line.len();
            self.custom_ids.push(custom_id(line));
        } else if let Ok(text) = std::str::from_utf8(line) {
            let name = text.split_once("filename=\"").and_then(|(_, name)| name.split_once('"'));
            self.name = name.map_or(std::mem::take(&mut self.name), |(name, _)| name.to_owned());
        }
    }

    /// Takes what stands behind the last line feed, where it is a line.
    fn end(&mut self) {
        let rest = std::mem::take(&mut self.held);
        if rest.starts_with(b"{") {
            self.line(&rest);
        }
    }
}

/// Finds the custom id without reading the rest of the line.
fn custom_id(line: &[u8]) -> Box<[u8]> {
    const QUICK: &[u8] = b"{\"custom_id\":\"";
    let until_quote = |text: &[u8]| -> Box<[u8]> {
        text.split(|byte| *byte == b'"').next().unwrap_or_default().into()
    };
    if let Some(id) = line.strip_prefix(QUICK) {
        return until_quote(id);
    }
    let text = String::from_utf8_lossy(line);
    let id = text.split_once("\"custom_id\"").map_or("", |(_, rest)| rest);
    until_quote(id.trim_start_matches([' ', ':']).trim_start_matches('"').as_bytes())
}

struct Job {
    object: Value,
    is_cancelled: bool,
}

#[derive(Default)]
struct State {
    files: Vec<Arc<Upload>>,
    jobs: Vec<Job>,
    /// Whether batches wait until they are let go.
    is_held: bool,
}

/// All files and batches.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<State>);

/// A page of a list.
pub(crate) struct Page<'a> {
    pub(crate) after: Option<&'a str>,
    pub(crate) limit: usize,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn number_of(id: &str, prefix: &str) -> Option<usize> {
    id.strip_prefix(prefix)?.parse().ok()
}

impl Jobs {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets batches wait from now on, or no longer.
    pub(crate) fn hold(&self, is_held: bool) {
        self.state().is_held = is_held;
    }

    /// Puts an upload away; returns the file object.
    pub(crate) fn uploaded(&self, mut upload: Upload) -> Value {
        upload.end();
        let mut state = self.state();
        state.files.push(Arc::new(upload));
        file_object(state.files.len() - 1, &state.files[state.files.len() - 1])
    }

    /// Returns a file object.
    pub(crate) fn file(&self, id: &str) -> Option<Value> {
        if let Some(at) = number_of(id, "file-in-") {
            return self.state().files.get(at).map(|file| file_object(at, file));
        }
        let file = self.input_of(id)?;
        Some(
            json!({"id": id, "object": "file", "bytes": file.bytes, "created_at": now(), "filename": "output.jsonl",
                    "purpose": "batch_output", "status": "processed"}),
        )
    }

    /// Returns the upload that an output file is for.
    pub(crate) fn input_of(&self, output: &str) -> Option<Arc<Upload>> {
        let at = number_of(output, "file-out-")?;
        let state = self.state();
        let job = state.jobs.get(at)?;
        let input = job.object["input_file_id"].as_str()?;
        state.files.get(number_of(input, "file-in-")?).cloned()
    }

    /// Makes a batch of what a create call says; `None` where its file is not there.
    pub(crate) fn create(&self, body: &[u8]) -> Option<Value> {
        let asked: Value = serde_json::from_slice(body).ok()?;
        let input = asked["input_file_id"].as_str()?;
        let mut state = self.state();
        let requests = state.files.get(number_of(input, "file-in-")?)?.custom_ids.len();
        let at = state.jobs.len();
        let object = json!({
            "id": format!("batch_{at}"), "object": "batch", "endpoint": asked["endpoint"], "errors": null,
            "input_file_id": input, "completion_window": asked["completion_window"], "status": "in_progress",
            "output_file_id": null, "error_file_id": null, "created_at": now(), "in_progress_at": now(),
            "expires_at": now() + 86_400, "finalizing_at": null, "completed_at": null, "failed_at": null,
            "expired_at": null, "cancelling_at": null, "cancelled_at": null,
            "request_counts": {"total": requests, "completed": 0, "failed": 0}, "metadata": asked["metadata"],
        });
        state.jobs.push(Job { object, is_cancelled: false });
        state.job(at)
    }

    /// Returns a batch object.
    pub(crate) fn batch(&self, id: &str) -> Option<Value> {
        self.state().job(number_of(id, "batch_")?)
    }

    /// Cancels a batch, which is complete all the same unless it is held.
    pub(crate) fn cancel(&self, id: &str) -> Option<Value> {
        let at = number_of(id, "batch_")?;
        let mut state = self.state();
        let is_held = state.is_held;
        state.jobs.get_mut(at)?.is_cancelled = is_held;
        state.job(at)
    }

    /// Lists batches, newest first.
    pub(crate) fn batches(&self, page: &Page<'_>) -> Value {
        let state = self.state();
        let all = (0..state.jobs.len()).rev().filter_map(|at| state.job(at));
        list(all, page)
    }

    /// Lists files, newest first.
    pub(crate) fn files(&self, page: &Page<'_>) -> Value {
        let state = self.state();
        let all = state.files.iter().enumerate().rev().map(|(at, file)| file_object(at, file));
        list(all, page)
    }
}

impl State {
    fn job(&self, at: usize) -> Option<Value> {
        let job = self.jobs.get(at)?;
        let mut object = job.object.clone();
        if job.is_cancelled {
            object["status"] = "cancelled".into();
            object["cancelled_at"] = now().into();
        } else if !self.is_held {
            object["status"] = "completed".into();
            object["finalizing_at"] = now().into();
            object["completed_at"] = now().into();
            object["output_file_id"] = format!("file-out-{at}").into();
            object["request_counts"]["completed"] = object["request_counts"]["total"].clone();
        }
        Some(object)
    }
}

fn file_object(at: usize, file: &Upload) -> Value {
    json!({"id": format!("file-in-{at}"), "object": "file", "bytes": file.bytes, "created_at": now(),
           "filename": file.name, "purpose": "batch", "status": "processed"})
}

fn list(all: impl Iterator<Item = Value>, page: &Page<'_>) -> Value {
    let mut all: Vec<Value> = all.collect();
    if let Some(after) = page.after {
        let from = all.iter().position(|object| object["id"] == after).map_or(0, |at| at + 1);
        all.drain(..from);
    }
    let has_more = all.len() > page.limit;
    all.truncate(page.limit);
    let id = |object: Option<&Value>| object.map_or(Value::Null, |object| object["id"].clone());
    let (first, last) = (id(all.first()), id(all.last()));
    json!({"object": "list", "data": all, "first_id": first, "last_id": last, "has_more": has_more})
}

/// About how many bytes of results are handed to the socket at a time.
const PART: usize = 256 * 1024;

/// The results of a batch, part by part.
pub(crate) struct Results {
    input: Arc<Upload>,
    replies: Arc<Replies>,
    at: usize,
}

impl Results {
    pub(crate) fn of(input: Arc<Upload>, replies: Arc<Replies>) -> Self {
        Self { input, replies, at: 0 }
    }

    /// Returns how long all of it is.
    pub(crate) fn length(&self) -> usize {
        let ids = self.input.custom_ids.iter().enumerate();
        ids.map(|(at, id)| self.replies.line_bytes(at, id)).sum()
    }
}

impl Iterator for Results {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut part = BytesMut::with_capacity(PART + 4096);
        while part.len() < PART
            && let Some(id) = self.input.custom_ids.get(self.at)
        {
            self.replies.put_line(&mut part, (self.at, id));
            self.at += 1;
        }
        (!part.is_empty()).then(|| part.freeze())
    }
}
