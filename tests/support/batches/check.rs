//! What a strict provider holds against what it is sent: OpenAI's specification, line by line.
//!
//! Nothing is refused here. Each breach is told in words, and a test that leaves any fails.

use std::collections::HashSet;

use serde_json::Value;

use super::http::{Call, Part, parts};
use super::{Kind, Line};

const ENDPOINTS: [&str; 2] = ["/v1/chat/completions", "/v1/responses"];
const MOST_LINES: usize = 50_000;
const MOST_BYTES: usize = 200_000_000;

/// Breaches of the specification, in words.
pub(super) type Breaches = Vec<String>;

/// Looks at what every call must have.
pub(super) fn call(call: &Call, kind: Kind) -> Breaches {
    let mut found = Breaches::new();
    let name = format!("{} {}", call.method, call.path);
    if call.header("authorization") != "Bearer test" {
        found.push(format!("{name}: the key is {:?}", call.header("authorization")));
    }
    match kind {
        Kind::Chat | Kind::Create => {
            let content_type = call.header("content-type");
            if content_type.split(';').next() != Some("application/json") {
                found.push(format!("{name}: JSON is sent as {content_type:?}"));
            }
        }
        Kind::Upload => {
            if !call.headers.contains_key("content-length") {
                found.push(format!("{name}: an upload has no content length"));
            }
        }
        Kind::Cancel => {}
        Kind::Unknown => found.push(format!("{name}: there is no such call")),
        Kind::Files | Kind::File | Kind::Content | Kind::Delete | Kind::Look | Kind::List => {
            if !call.body.is_empty() {
                found.push(format!("{name}: has a body"));
            }
        }
    }
    found.extend(query(call, kind).into_iter().map(|breach| format!("{name}: {breach}")));
    found
}

fn query(call: &Call, kind: Kind) -> Breaches {
    let (allowed, most): (&[&str], usize) = match kind {
        Kind::Files => (&["purpose", "limit", "order", "after"], 10_000),
        Kind::List => (&["limit", "after"], 100),
        Kind::Chat
        | Kind::Create
        | Kind::Upload
        | Kind::Cancel
        | Kind::Unknown
        | Kind::File
        | Kind::Content
        | Kind::Delete
        | Kind::Look => (&[], 0),
    };
    let mut found = Breaches::new();
    for (name, value) in &call.query {
        let is_right = match name.as_str() {
            _ if !allowed.contains(&name.as_str()) => false,
            "limit" => value.parse().is_ok_and(|limit: usize| (1..=most).contains(&limit)),
            "order" => ["asc", "desc"].contains(&value.as_str()),
            _ => !value.is_empty(),
        };
        if !is_right {
            found.push(format!("the query has {name}={value}"));
        }
    }
    found
}

/// An upload, as far as it can be understood.
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<Line>,
}

/// Reads an upload. Returns it with the breaches in it, or with nothing where there is no file at all.
pub(super) fn upload(call: &Call) -> (Option<Upload>, Breaches) {
    let mut found = Breaches::new();
    let parts = match parts(call.header("content-type"), &call.body) {
        Ok(parts) => parts,
        Err(breach) => return (None, vec![breach]),
    };
    let field = |name: &str| parts.iter().find(|part| part.name == name);
    for (at, part) in parts.iter().enumerate() {
        let is_right = match part.name.as_str() {
            "purpose" => part.bytes == b"batch",
            "file" => part.filename.is_some(),
            "expires_after[anchor]" => part.bytes == b"created_at",
            "expires_after[seconds]" => {
                part.text().parse().is_ok_and(|seconds: u64| is_expiry(seconds))
            }
            _ => false,
        };
        if !is_right {
            found.push(format!("the form has {:?}", describe(part)));
        }
        if parts[..at].iter().any(|earlier| earlier.name == part.name) {
            found.push(format!("the form has {:?} twice", part.name));
        }
    }
    if field("purpose").is_none() {
        found.push("the form has no purpose".to_owned());
    }
    if field("expires_after[anchor]").is_some() != field("expires_after[seconds]").is_some() {
        found.push("the form has half an expiry".to_owned());
    }
    let Some(file) = field("file") else {
        found.push("the form has no file".to_owned());
        return (None, found);
    };
    let name = file.filename.clone().unwrap_or_default();
    let stem = name.strip_suffix(".jsonl").unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if stem.is_empty() || !stem.bytes().all(is_plain) {
        found.push(format!("a file is called {name:?}"));
    }
    let lines = lines(&file.bytes, &mut found);
    (Some(Upload { name, bytes: file.bytes.clone(), lines }), found)
}

fn describe(part: &Part) -> (String, String) {
    (part.name.clone(), part.text().chars().take(60).collect())
}

fn is_expiry(seconds: u64) -> bool {
    (3600..=2_592_000).contains(&seconds)
}

fn lines(bytes: &[u8], found: &mut Breaches) -> Vec<Line> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        found.push("a file starts with a byte order mark".to_owned());
    }
    if bytes.contains(&b'\r') {
        found.push("a file has a carriage return".to_owned());
    }
    if bytes.len() > MOST_BYTES {
        found.push(format!("a file has {} bytes", bytes.len()));
    }
    let Some(whole) = bytes.strip_suffix(b"\n") else {
        found.push("a file does not end in a line end".to_owned());
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (at, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        match one_line(line) {
            Ok(line) => lines.push(line),
            Err(breach) => found.push(format!("line {}: {breach}", at + 1)),
        }
    }
    if lines.len() > MOST_LINES {
        found.push(format!("a file has {} lines", lines.len()));
    }
    let distinct = |name: &str, most: usize, found: &mut Breaches, of: &dyn Fn(&Line) -> String| {
        let values: HashSet<String> = lines.iter().map(of).collect();
        if values.len() > most {
            found.push(format!("a file has {} kinds of {name}", values.len()));
        }
        values.len()
    };
    distinct("model", 1, found, &|line| line.body["model"].to_string());
    distinct("url", 1, found, &|line| line.url.clone());
    if distinct("id", usize::MAX, found, &|line| line.custom_id.clone()) < lines.len() {
        found.push("a file has a custom_id twice".to_owned());
    }
    lines
}

fn one_line(line: &[u8]) -> Result<Line, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("no object")?;
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    if keys != ["body", "custom_id", "method", "url"] {
        return Err(format!("has the keys {keys:?}"));
    }
    let custom_id = value["custom_id"].as_str().ok_or("the custom_id is no text")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !(1..=64).contains(&custom_id.len()) || !custom_id.bytes().all(is_plain) {
        return Err(format!("the custom_id is {custom_id:?}"));
    }
    if value["method"] != "POST" {
        return Err(format!("the method is {}", value["method"]));
    }
    let url = value["url"].as_str().unwrap_or_default();
    let text = match url {
        "/v1/chat/completions" => "messages",
        "/v1/responses" => "input",
        _ => return Err(format!("the url is {}", value["url"])),
    };
    body(&value["body"], text)?;
    Ok(Line { custom_id: custom_id.to_owned(), url: url.to_owned(), body: value["body"].clone() })
}

/// Looks at the body of one request.
pub(super) fn body(body: &Value, text: &str) -> Result<(), String> {
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(format!("the model is {}", body["model"]));
    }
    if body[text].as_array().is_none_or(Vec::is_empty) {
        return Err(format!("{text} is {}", body[text]));
    }
    if body.get("stream").is_some_and(|stream| stream != false) {
        return Err("asks for a stream".to_owned());
    }
    Ok(())
}

/// Looks at the body of a create, apart from what only the books can tell.
pub(super) fn create(body: &Value) -> Breaches {
    let mut found = Breaches::new();
    let Some(object) = body.as_object() else { return vec!["a create is no object".to_owned()] };
    for (name, value) in object {
        let is_right = match name.as_str() {
            "input_file_id" => value.is_string(),
            "endpoint" => value.as_str().is_some_and(|word| ENDPOINTS.contains(&word)),
            "completion_window" => value == "24h",
            "metadata" => is_metadata(value),
            "output_expires_after" => {
                value.as_object().is_some_and(|expiry| expiry.len() == 2)
                    && value["anchor"] == "created_at"
                    && value["seconds"].as_u64().is_some_and(is_expiry)
            }
            _ => false,
        };
        if !is_right {
            found.push(format!("a create has {name}: {value}"));
        }
    }
    for name in ["input_file_id", "endpoint", "completion_window"] {
        if !object.contains_key(name) {
            found.push(format!("a create has no {name}"));
        }
    }
    found
}

fn is_metadata(value: &Value) -> bool {
    value.as_object().is_some_and(|pairs| {
        pairs.len() <= 16
            && pairs.iter().all(|(key, value)| {
                key.chars().count() <= 64
                    && value.as_str().is_some_and(|value| value.chars().count() <= 512)
            })
    })
}
