//! What a provider says of batches: a file of results, and, read from the same bytes, its objects, pages and errors.
//!
//! Lines are those that a plain split at line feeds gives, however the file was cut on its way; a line is matched to
//! what its JSON says and nothing else; no id leads out of the server's own paths.

use overnight::domain::Endpoint;
use overnight::provider::batch::{
    BatchObject, BatchUrls, Garbled, Lines, attempt_of, batch_object, batch_page, file_object,
    file_page, mentions_expiry, result_line, token_limit,
};
use serde_json::Value;
use url::Url;

use super::replies;

const BASE: &str = "https://api.example.com/v1";
const TOKEN: &str = "abcdef123456";

/// Checks a result file; its first byte says into pieces of which size it is cut.
pub fn check(data: &[u8]) {
    let Some((&size, file)) = data.split_first() else { return };
    let expected = plain_lines(file);
    for size in [usize::from(size) + 1, 1, 4096] {
        assert_eq!(lines(file, size), expected, "cut into pieces of {size}");
    }
    for line in &expected {
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses] {
            check_line(endpoint, &line.bytes);
        }
    }
    check_objects(file);
}

#[derive(Debug, PartialEq)]
struct Line {
    number: u64,
    bytes: Vec<u8>,
    is_whole: bool,
}

fn lines(file: &[u8], size: usize) -> Vec<Line> {
    let mut found = Vec::new();
    let mut each = |line: overnight::provider::batch::Line<'_>| {
        assert!(!line.is_too_long);
        let (number, is_whole) = (line.number, line.is_whole);
        found.push(Line { number, bytes: line.bytes.to_vec(), is_whole });
    };
    let mut lines = Lines::new();
    for piece in file.chunks(size) {
        lines.push(piece, &mut each);
    }
    lines.finish(&mut each);
    found
}

/// The oracle: the whole file split at once.
fn plain_lines(file: &[u8]) -> Vec<Line> {
    let parts: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
    let last = parts.len();
    let line = |(number, bytes): (usize, &&[u8])| {
        let mut bytes = *bytes;
        if number == 1 {
            bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        }
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let is_blank = bytes.iter().all(u8::is_ascii_whitespace);
        let line = Line { number: number as u64, bytes: bytes.to_vec(), is_whole: number < last };
        (!is_blank).then_some(line)
    };
    (1..).zip(&parts).filter_map(line).collect()
}

fn check_line(endpoint: Endpoint, bytes: &[u8]) {
    let tree = serde_json::from_slice::<Value>(bytes).ok();
    match result_line(endpoint, bytes) {
        Ok(line) => {
            replies::check_reading(&line.reading);
            let id = tree.as_ref().and_then(|tree| tree.get("custom_id"));
            if let Some(Value::String(id)) = id.filter(|id| !id.as_str().unwrap_or("").is_empty()) {
                assert_eq!(line.custom_id.as_ref(), Some(id));
            }
            if let Some(id) = &line.custom_id {
                let _ = attempt_of(id, TOKEN);
            }
            super::assert_message(line.provider_request_id.as_deref().unwrap_or(""), 1_000);
        }
        Err(Garbled { custom_id }) => {
            assert!(!tree.is_some_and(|tree| tree.is_object() && is_plain(bytes, &tree)));
            let fits = |id: &String| {
                (1..=64).contains(&id.len())
                    && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            assert!(custom_id.is_none_or(|id| fits(&id)));
        }
    }
}

/// Says whether an object is one that nobody could find fault with: with no name twice, and each of the right type.
fn is_plain(bytes: &[u8], tree: &Value) -> bool {
    // A text can hold what looks like a name; then there are more than it has.
    let colons = bytes.windows(2).filter(|pair| pair == b"\":" || pair == b"\" ").count();
    colons == names(tree)
        && tree["custom_id"].is_string()
        && tree["error"].is_null()
        && tree["response"].is_null()
}

fn names(tree: &Value) -> usize {
    match tree {
        Value::Object(fields) => fields.len() + fields.values().map(names).sum::<usize>(),
        Value::Array(items) => items.iter().map(names).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn check_objects(body: &[u8]) {
    let urls = BatchUrls::new(BASE).unwrap();
    if let Ok(batch) = batch_object(body) {
        check_batch(&urls, &batch);
    }
    if let Ok(page) = batch_page(body) {
        page.items.iter().for_each(|batch| check_batch(&urls, &batch.object));
        stays_inside(&urls.batches_page(page.next.as_deref()), 2);
    }
    let files =
        file_page(body).ok().into_iter().flat_map(|page| page.items).map(|file| file.object);
    for file in files.chain(file_object(body).ok()) {
        assert!(!file.id.is_empty());
        stays_inside(&urls.file(&file.id), 3);
        stays_inside(&urls.content(&file.id), 4);
    }
}

fn check_batch(urls: &BatchUrls, batch: &BatchObject) {
    assert!(!batch.id.is_empty());
    stays_inside(&urls.batch(&batch.id), 3);
    stays_inside(&urls.cancel(&batch.id), 4);
    for problem in &batch.errors {
        super::assert_message(&problem.message, replies::MOST_BYTES);
        let _ = mentions_expiry(&problem.message);
    }
    let _ = token_limit(&batch.errors);
}

fn stays_inside(url: &Url, segments: usize) {
    assert_eq!(url.origin().ascii_serialization(), "https://api.example.com");
    assert!(url.path().starts_with("/v1/"), "{url}");
    assert_eq!(url.path_segments().unwrap().count(), segments, "{url}");
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url));
}
