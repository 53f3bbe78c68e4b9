//! The books of the scripted batch provider: its files, its batches, and what it has charged for which body.
//!
//! Batches move by being looked at, never by a clock. Nothing that was accepted is ever forgotten here,
//! so a test can hold the whole of a run, or of many broken ones, against what a provider would bill.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::super::{Act, completion};
use super::http::{Call, Reply};
use super::{Ask, End, Inner, Kind, Line, Script, check, text_of};

/// A file at the provider.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) purpose: &'static str,
    pub(super) bytes: Vec<u8>,
    lines: Vec<Line>,
}

/// A batch at the provider.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) lines: Vec<Line>,
    pub(crate) metadata: Value,
    pub(crate) input_file_id: String,
    /// Which look is next, from 0.
    looks: usize,
    end: End,
    /// The number of done, good and failed lines.
    counts: [usize; 3],
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    errors: Value,
    is_gone: bool,
}

impl Batch {
    pub(crate) fn is_over(&self) -> bool {
        self.is_gone || ["completed", "failed", "expired", "cancelled"].contains(&self.status)
    }

    /// The texts that it asks, in the order of its lines.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.lines.iter().map(|line| text_of(&line.body)).collect()
    }
}

/// All that the provider knows.
#[derive(Default)]
pub(super) struct Books {
    pub(super) files: Vec<File>,
    pub(super) batches: Vec<Batch>,
    /// Times that each body was paid for.
    pub(super) charges: HashMap<String, usize>,
    /// Times that each body was worked on, paid or not.
    asked: HashMap<String, usize>,
    custom_ids: HashSet<String>,
    pub(super) breaches: Vec<String>,
    pub(super) cancels: usize,
    pub(super) is_held: bool,
}

impl Books {
    /// Does what a good provider does with a call.
    pub(super) fn handle(&mut self, script: &Script, kind: Kind, call: &Call) -> Reply {
        self.breaches.extend(check::call(call, kind));
        let id = call.path.split('/').nth(3).unwrap_or_default();
        if id.contains("foreign") {
            self.breaches.push(format!("{} {}: not ours", call.method, call.path));
        }
        Reply::Plain(match kind {
            Kind::Chat => self.chat(script, call),
            Kind::Upload => self.upload(call),
            Kind::Files => self.list_files(script, call),
            Kind::File => self.file(id).map_or_else(nothing, |file| Act::json(200, &shown(file))),
            Kind::Content => match self.file(id) {
                Some(file) => return Reply::File(file.bytes.clone()),
                None if id == "file-empty" => return Reply::File(Vec::new()),
                None => nothing(),
            },
            Kind::Delete => self.delete(id),
            Kind::Create => self.create(script, call),
            Kind::Look => self.look(script, id),
            Kind::List => self.list(script, call),
            Kind::Cancel => self.cancel(script, id),
            Kind::Unknown => nothing(),
        })
    }

    fn file(&self, id: &str) -> Option<&File> {
        self.files.iter().find(|file| file.id == id)
    }

    fn chat(&mut self, script: &Script, call: &Call) -> Act {
        let Ok(body) = serde_json::from_slice::<Value>(&call.body) else {
            self.breaches.push("a request is no JSON".to_owned());
            return Act::error(400, "invalid_json", "not JSON");
        };
        let is_chat = call.path.ends_with("/chat/completions");
        let messages = if is_chat { "messages" } else { "input" };
        self.breaches.extend(check::body(&body, messages).err());
        match self.work(script, &body, false) {
            Inner::Says(text) => Act::json(200, &completed(&body, &text, "stop")),
            Inner::Cut(text) => Act::json(200, &completed(&body, &text, "length")),
            Inner::Fails(status, code) => Act::error(status, code, "the script says so"),
            Inner::Dies(_) | Inner::Lost => Act::Close,
        }
    }

    /// Works on a body, and charges for it where it comes to an answer.
    fn work(&mut self, script: &Script, body: &Value, is_batch: bool) -> Inner {
        let key = body.to_string();
        let seen = self.asked.entry(key.clone()).or_default();
        let ask = Ask { body, text: text_of(body), seen: *seen, is_batch };
        *seen += 1;
        let inner = (script.answer)(&ask);
        if let Inner::Says(_) | Inner::Cut(_) = inner {
            *self.charges.entry(key).or_default() += 1;
        }
        inner
    }

    fn upload(&mut self, call: &Call) -> Act {
        let (upload, breaches) = check::upload(call);
        self.breaches.extend(breaches.into_iter().map(|breach| format!("an upload: {breach}")));
        let Some(upload) = upload else {
            return Act::error(400, "invalid_request_error", "there is no file");
        };
        let same_name = self.files.iter().filter(|file| file.name == upload.name);
        // The same file may come twice where the first reply was lost.
        if same_name.into_iter().any(|file| file.bytes != upload.bytes) {
            self.breaches.push(format!("two files are called {}", upload.name));
        }
        let file = self.keep(upload.name, "batch", upload.bytes);
        file.lines = upload.lines;
        Act::json(200, &shown(file))
    }

    fn keep(&mut self, name: String, purpose: &'static str, bytes: Vec<u8>) -> &mut File {
        let id = format!("file-{:06}", self.files.len() + 1);
        self.files.push(File { id, name, purpose, bytes, lines: Vec::new() });
        let last = self.files.len() - 1;
        &mut self.files[last]
    }

    fn list_files(&mut self, script: &Script, call: &Call) -> Act {
        let purpose = asked(call, "purpose");
        let ours = self.files.iter().rev().filter(|file| !file.name.is_empty());
        let mut all: Vec<Value> = ours
            .filter(|file| purpose.is_none_or(|purpose| purpose == file.purpose))
            .map(shown)
            .collect();
        let like = all.first().cloned();
        let foreign = (0..script.foreign).map(|number| {
            let name = match &like {
                Some(file) => format!("x{}", file["filename"].as_str().unwrap_or_default()),
                None => format!("foreign-{number}.jsonl"),
            };
            json!({"id": format!("file-foreign{number:05}"), "object": "file", "bytes": number,
                   "created_at": 1_800_000_000, "filename": name, "purpose": "batch",
                   "status": "processed"})
        });
        all = foreign.chain(all).collect();
        if asked(call, "order") == Some("asc") {
            all.reverse();
        }
        self.page(call, all, 10_000)
    }

    fn page(&mut self, call: &Call, all: Vec<Value>, default: usize) -> Act {
        let limit = asked(call, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(default);
        let mut start = 0;
        if let Some(after) = asked(call, "after") {
            let Some(at) = all.iter().position(|item| item["id"] == after) else {
                self.breaches.push(format!("a list after {after}, which is not there"));
                return nothing();
            };
            start = at + 1;
        }
        let page: Vec<Value> = all[start..].iter().take(limit).cloned().collect();
        let has_more = start + page.len() < all.len();
        let (first, last) = (page.first(), page.last());
        let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
        Act::json(
            200,
            &json!({"object": "list", "first_id": id(first), "last_id": id(last),
                    "has_more": has_more, "data": page}),
        )
    }

    fn delete(&mut self, id: &str) -> Act {
        let in_use = self.batches.iter().any(|batch| batch.input_file_id == id && !batch.is_over());
        if in_use {
            self.breaches.push(format!("{id} is deleted while its batch is under way"));
        }
        let Some(at) = self.files.iter().position(|file| file.id == id) else { return nothing() };
        // The place stays taken, so that no id is given twice.
        self.files[at].id = format!("{id} deleted");
        self.files[at].name = String::new();
        Act::json(200, &json!({"id": id, "object": "file", "deleted": true}))
    }

    fn create(&mut self, script: &Script, call: &Call) -> Act {
        let Ok(body) = serde_json::from_slice::<Value>(&call.body) else {
            self.breaches.push("a create is no JSON".to_owned());
            return Act::error(400, "invalid_json", "not JSON");
        };
        self.breaches.extend(check::create(&body));
        let input = body["input_file_id"].as_str().unwrap_or_default().to_owned();
        let Some(file) = self.file(&input).filter(|file| file.purpose == "batch") else {
            self.breaches.push(format!("a create names {input:?}, which is no batch file"));
            return Act::error(400, "invalid_request", "no such file");
        };
        let lines = file.lines.clone();
        if lines.iter().any(|line| line.url != body["endpoint"]) {
            self.breaches.push("a create's endpoint is not that of its lines".to_owned());
        }
        if self.batches.iter().any(|batch| batch.input_file_id == input) {
            self.breaches.push(format!("two batches are created from {input}"));
        }
        let metadata = body["metadata"].clone();
        if self.batches.iter().any(|batch| batch.metadata == metadata) {
            self.breaches.push(format!("two batches are created with {metadata}"));
        }
        for line in &lines {
            if !self.custom_ids.insert(line.custom_id.clone()) {
                self.breaches.push(format!("{} is in two batches", line.custom_id));
            }
        }
        let number = self.batches.len() + 1;
        self.batches.push(Batch {
            id: format!("batch_{number:06}"),
            status: "validating",
            metadata,
            input_file_id: input,
            looks: 0,
            end: self.end(script, number, &lines),
            counts: [0; 3],
            output_file_id: None,
            error_file_id: None,
            errors: Value::Null,
            is_gone: false,
            lines,
        });
        self.show(script, number - 1)
    }

    /// How a new batch will end: as the script says, unless the queue is full.
    fn end(&self, script: &Script, number: usize, lines: &[Line]) -> End {
        let Some(limit) = script.queue_tokens else { return (script.end)(number) };
        let live = self.batches.iter().filter(|batch| !batch.is_over() && !batch.is_refused());
        let queued: usize =
            live.flat_map(|batch| &batch.lines).chain(lines).map(Line::tokens).sum();
        if queued <= limit {
            return (script.end)(number);
        }
        let mut words = limit.to_string();
        if words.len() > 3 {
            words.insert(words.len() - 3, ',');
        }
        let message = format!(
            "Enqueued token limit reached for test-model in organization org-test. Limit: {words} \
             enqueued tokens. Please try again once some in_progress batches have been completed."
        );
        End::Failed { code: "token_limit_exceeded", message, done: 0 }
    }

    fn look(&mut self, script: &Script, id: &str) -> Act {
        let at = self.batches.iter().position(|batch| batch.id == id && !batch.is_gone);
        let Some(at) = at else { return nothing() };
        self.advance(script, at);
        if self.batches[at].is_gone { nothing() } else { self.show(script, at) }
    }

    fn advance(&mut self, script: &Script, at: usize) {
        let batch = &mut self.batches[at];
        if batch.is_over() {
            return;
        }
        batch.looks += 1;
        if batch.status == "cancelling" {
            let done = match batch.end {
                End::Never { done } => done,
                _ => script.done_when_cancelled,
            };
            return self.finish(script, at, &End::Cancelled { done });
        }
        if let Some(stage) = script.stages.get(batch.looks - 1)
            && !batch.is_refused()
        {
            batch.status = stage;
            return;
        }
        batch.status = "in_progress";
        match batch.end.clone() {
            End::Never { .. } => {}
            End::Vanishes => batch.is_gone = true,
            _ if self.is_held => {}
            end => self.finish(script, at, &end),
        }
    }

    /// Ends a batch, with whatever it has done by then.
    fn finish(&mut self, script: &Script, at: usize, end: &End) {
        let lines = self.batches[at].lines.clone();
        let (status, done, why) = match end {
            End::Completed | End::Never { .. } | End::Vanishes => ("completed", lines.len(), None),
            End::Expired { done } => ("expired", *done, Some("batch_expired")),
            End::Cancelled { done } => ("cancelled", *done, Some("batch_cancelled")),
            End::Failed { done, .. } => ("failed", *done, None),
        };
        if let End::Failed { code, message, .. } = end {
            let error = json!({"code": code, "message": message, "param": null, "line": null});
            self.batches[at].errors = json!({"object": "list", "data": [error]});
        }
        let (mut output, mut error) = (Vec::new(), Vec::new());
        for (number, line) in lines.iter().enumerate() {
            let inner = match why {
                _ if number < done => self.work(script, &line.body, true),
                Some(code) => Inner::Dies(code),
                None => Inner::Lost,
            };
            match &inner {
                Inner::Says(_) | Inner::Cut(_) => output.push(result(line, &inner)),
                Inner::Fails(..) | Inner::Dies(_) => error.push(result(line, &inner)),
                Inner::Lost => {}
            }
        }
        // As everywhere but in a toy, the order is not that of the input.
        output.reverse();
        self.batches[at].counts = [lines.len(), output.len(), error.len()];
        (script.lines)(at + 1, &mut output, &mut error);
        let id = self.batches[at].id.clone();
        self.batches[at].output_file_id = self.results(format!("{id}_output.jsonl"), &output);
        self.batches[at].error_file_id = self.results(format!("{id}_error.jsonl"), &error);
        self.batches[at].status = status;
    }

    fn results(&mut self, name: String, lines: &[Vec<u8>]) -> Option<String> {
        if lines.is_empty() {
            return None;
        }
        let mut bytes = lines.join(&b'\n');
        bytes.push(b'\n');
        Some(self.keep(name, "batch_output", bytes).id.clone())
    }

    fn list(&mut self, script: &Script, call: &Call) -> Act {
        let ours: Vec<Value> = (0..self.batches.len())
            .rev()
            .filter(|at| !self.batches[*at].is_gone)
            .map(|at| self.object(script, at))
            .collect();
        let like = ours.first().map_or(Value::Null, |batch| batch["metadata"].clone());
        let foreign = (0..script.foreign).map(|number| foreign(number, &like));
        let all = foreign.chain(ours).collect();
        self.page(call, all, 20)
    }

    fn cancel(&mut self, script: &Script, id: &str) -> Act {
        self.cancels += 1;
        let at = self.batches.iter().position(|batch| batch.id == id && !batch.is_gone);
        let Some(at) = at else { return nothing() };
        if self.batches[at].is_over() {
            return Act::error(400, "invalid_request_error", "it has ended");
        }
        self.batches[at].status = "cancelling";
        self.show(script, at)
    }

    fn show(&self, script: &Script, at: usize) -> Act {
        Act::json(200, &self.object(script, at)).with("x-request-id", "req_batch")
    }

    fn object(&self, script: &Script, at: usize) -> Value {
        let batch = &self.batches[at];
        let [total, completed, failed] = batch.counts;
        let mut object = json!({
            "id": batch.id, "object": "batch", "endpoint": batch.lines.first().map(|line| &line.url),
            "model": "test-model-2026-01-01", "errors": batch.errors,
            "input_file_id": batch.input_file_id, "completion_window": "24h", "status": batch.status,
            "output_file_id": batch.output_file_id, "error_file_id": batch.error_file_id,
            "created_at": 1_800_000_000, "in_progress_at": null, "expires_at": 1_800_086_400,
            "finalizing_at": null, "completed_at": null, "failed_at": null, "expired_at": null,
            "cancelling_at": null, "cancelled_at": null,
            "request_counts": {"total": total, "completed": completed, "failed": failed},
            "metadata": batch.metadata,
        });
        (script.object)(at + 1, &mut object);
        object
    }
}

impl Batch {
    fn is_refused(&self) -> bool {
        matches!(self.end, End::Failed { code: "token_limit_exceeded", .. })
    }
}

impl Line {
    /// What it takes up of the queue: its words, which are never more than its tokens.
    fn tokens(&self) -> usize {
        text_of(&self.body).split_whitespace().count()
    }
}

fn asked<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

fn nothing() -> Act {
    Act::error(404, "not_found", "there is no such thing")
}

fn shown(file: &File) -> Value {
    json!({"id": file.id, "object": "file", "bytes": file.bytes.len(), "created_at": 1_800_000_000,
           "expires_at": null, "filename": file.name, "purpose": file.purpose,
           "status": "processed", "status_details": null})
}

/// A batch of somebody else, in whose metadata ours may be seen by who looks carelessly.
fn foreign(number: usize, like: &Value) -> Value {
    let metadata = match number % 4 {
        0 => Value::Null,
        1 => json!({}),
        2 => json!({"project": format!("other-{number}")}),
        _ => {
            let pairs = like.as_object().into_iter().flatten();
            pairs
                .map(|(key, value)| {
                    (key.clone(), json!(format!("{}x", value.as_str().unwrap_or_default())))
                })
                .collect()
        }
    };
    let status = ["validating", "in_progress", "completed", "failed", "cancelled"][number % 5];
    let mut batch = json!({
        "id": format!("batch_foreign{number:05}"), "object": "batch",
        "endpoint": "/v1/chat/completions", "errors": null,
        "input_file_id": format!("file-foreign{number:05}"), "completion_window": "24h",
        "status": status, "output_file_id": null, "error_file_id": null,
        "created_at": 1_800_000_000, "request_counts": {"total": 1, "completed": 1, "failed": 0},
    });
    // The specification requires none of it.
    if !number.is_multiple_of(8) {
        batch["metadata"] = metadata;
    }
    batch
}

/// The reply to a body, in the form of its endpoint.
fn completed(body: &Value, text: &str, finish_reason: &str) -> Value {
    if body.get("messages").is_some() {
        return completion(text, finish_reason);
    }
    let (status, details) = match finish_reason {
        "length" => ("incomplete", json!({"reason": "max_output_tokens"})),
        _ => ("completed", Value::Null),
    };
    json!({
        "id": "resp_1", "object": "response", "created_at": 1, "model": "served-model",
        "status": status, "incomplete_details": details, "error": null,
        "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": status,
                    "content": [{"type": "output_text", "text": text, "annotations": []}]}],
        "usage": {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110,
                  "input_tokens_details": {"cached_tokens": 0},
                  "output_tokens_details": {"reasoning_tokens": 0}},
    })
}

/// The line in which a request's result is told.
fn result(line: &Line, inner: &Inner) -> Vec<u8> {
    let reply = |status: u16, body: Value| json!({"status_code": status, "request_id": format!("req_{}", line.custom_id), "body": body});
    let (response, error) = match inner {
        Inner::Says(text) => (reply(200, completed(&line.body, text, "stop")), Value::Null),
        Inner::Cut(text) => (reply(200, completed(&line.body, text, "length")), Value::Null),
        Inner::Fails(status, code) => {
            let error = json!({"message": "the script says so", "type": "some_error", "param": null, "code": code});
            (reply(*status, json!({"error": error})), Value::Null)
        }
        Inner::Dies(code) => {
            (Value::Null, json!({"code": code, "message": "it did not come to it"}))
        }
        Inner::Lost => return Vec::new(),
    };
    json!({"id": format!("batch_req_{}", line.custom_id), "custom_id": line.custom_id,
           "response": response, "error": error})
    .to_string()
    .into_bytes()
}
