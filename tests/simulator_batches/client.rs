//! What a client of files and batches does, over the plain socket of [`Served`].

use std::io;

use serde_json::{Value, json};

use crate::simulated::{Reply, Served, chat};

/// The most looks that a batch may need to end.
const MOST_LOOKS: usize = 20;

impl Served {
    /// Sends a form; the file, if there is one, comes last.
    pub(crate) fn form(
        &self,
        fields: &[(&str, &str)],
        file: Option<(&str, &[u8])>,
    ) -> io::Result<Reply> {
        let mut body = Vec::new();
        for (name, text) in fields {
            body.extend_from_slice(b"--edge\r\ncontent-disposition: form-data; name=\"");
            body.extend_from_slice(format!("{name}\"\r\n\r\n{text}\r\n").as_bytes());
        }
        if let Some((filename, bytes)) = file {
            let head = format!(
                "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
                 content-type: application/octet-stream\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--edge--\r\n");
        let mut request = format!(
            "POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; \
             boundary=edge\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        self.send(request)
    }

    /// Uploads a file for batches.
    pub(crate) fn upload(&self, text: &str) -> io::Result<Reply> {
        self.form(&[("purpose", "batch")], Some(("in.jsonl", text.as_bytes())))
    }

    /// Creates a batch of calls to chat completions.
    pub(crate) fn create(&self, file_id: &str) -> io::Result<Reply> {
        self.post("/v1/batches", &create(file_id))
    }

    /// Uploads and creates; returns the batch as it is told first.
    pub(crate) fn batch(&self, text: &str) -> Value {
        let file = self.upload(text).unwrap();
        assert_eq!(file.status, 200, "{file:?}");
        let batch = self.create(file.id()).unwrap();
        assert_eq!(batch.status, 200, "{batch:?}");
        batch.json()
    }

    /// Looks at a batch.
    pub(crate) fn look(&self, batch: &Value) -> Reply {
        self.get(&format!("/v1/batches/{}", batch["id"].as_str().unwrap()))
    }

    /// Cancels a batch.
    pub(crate) fn cancel(&self, batch: &Value) -> Reply {
        self.post(&format!("/v1/batches/{}/cancel", batch["id"].as_str().unwrap()), &json!({}))
            .unwrap()
    }

    /// Looks at a batch until it has ended.
    pub(crate) fn end(&self, batch: &Value) -> Value {
        for _ in 0..MOST_LOOKS {
            let seen = self.look(batch).json();
            let status = seen["status"].as_str().unwrap_or("-");
            if ["completed", "failed", "expired", "cancelled"].contains(&status) {
                return seen;
            }
        }
        panic!("it does not end: {:?}", self.look(batch));
    }

    /// Downloads a file.
    pub(crate) fn content(&self, id: &Value) -> Reply {
        self.get(&format!("/v1/files/{}/content", id.as_str().unwrap()))
    }

    /// Downloads a result file and reads its lines.
    pub(crate) fn lines(&self, id: &Value) -> Vec<Value> {
        let reply = self.content(id);
        assert_eq!(reply.status, 200, "{reply:?}");
        let lines = reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl Reply {
    /// Returns the id of the object that was replied.
    pub(crate) fn id(&self) -> &str {
        let text = std::str::from_utf8(&self.body).unwrap();
        let at = text.find("\"id\":\"").unwrap() + "\"id\":\"".len();
        text[at..].split('"').next().unwrap()
    }
}

/// The body that creates a batch.
pub(crate) fn create(file_id: &str) -> Value {
    json!({"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"})
}

/// One line of an input file.
pub(crate) fn line(custom_id: &str, body: &Value) -> String {
    let line = json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions",
        "body": body});
    format!("{line}\n")
}

/// An input file with so many lines, `k0` and up.
pub(crate) fn input(lines: usize) -> String {
    (0..lines).map(|n| line(&format!("k{n}"), &chat(&format!("row {n}")))).collect()
}

/// The `custom_id`s of the lines of a result file, in their order.
pub(crate) fn ids(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["custom_id"].as_str().unwrap().to_owned()).collect()
}

/// The same, sorted.
pub(crate) fn sorted_ids(lines: &[Value]) -> Vec<String> {
    let mut ids = ids(lines);
    ids.sort();
    ids
}
