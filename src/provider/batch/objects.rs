//! What a provider says of its files and batches, one at a time and by pages.
//!
//! Only an id is asked of either: without one nothing can be done with it. A list that cannot be
//! read is an error and never an empty list, for an empty one proves that a batch was not created.

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::problems::Problems;
use super::shapes::{Flag, Id, Moment};
use super::{BatchProblem, status};
use crate::domain::{BatchCounts, RemoteStatus, UnixMs};
use crate::provider::decode::loose::{Count, Loose, Shape, from_object, object_shapes};
use crate::provider::decode::mend;
use crate::provider::decode::message::short;

/// A file at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileObject {
    /// The provider's id, never empty.
    pub id: String,
    /// The name that it was uploaded under.
    pub filename: Option<String>,
    /// Its size.
    pub bytes: Option<u64>,
    /// `uploaded`, `processed`, `error`, …, in lower case; many servers leave it out.
    pub status: Option<String>,
}

/// A batch at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchObject {
    /// The provider's id, never empty.
    pub id: String,
    /// How far it has come.
    pub status: RemoteStatus,
    /// The provider's own word for that; empty if it has none.
    pub word: String,
    /// The file that it was made of.
    pub input_file_id: Option<String>,
    /// Where its good replies are; can be there whatever the status.
    pub output_file_id: Option<String>,
    /// Where its other replies are; can be there whatever the status, and the file can be empty.
    pub error_file_id: Option<String>,
    /// When it was made.
    pub created_at: Option<UnixMs>,
    /// When its window closes.
    pub expires_at: Option<UnixMs>,
    /// How many requests are done, if it counts any.
    pub counts: Option<BatchCounts>,
    /// Why it failed.
    pub errors: Vec<BatchProblem>,
    /// The token in its metadata, if it is one of Overnight's.
    pub token: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What can be read of it, in its order; an entry without an id is passed over.
    pub items: Vec<Entry<T>>,
    /// The cursor of the next page, if there is one. A server can give the same one for ever.
    pub next: Option<String>,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// What it says.
    pub object: T,
    /// Its JSON, as it came.
    pub raw: String,
}

/// A reply that says success and does not hold what was asked for. Never repeats any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

/// Reads the reply to an upload, or to a look at a file.
pub fn file_object(body: &[u8]) -> Result<FileObject, Unreadable> {
    parsed(body, one::<FileOnWire>)
}

/// Reads the reply to a create, a look or a cancel.
pub fn batch_object(body: &[u8]) -> Result<BatchObject, Unreadable> {
    parsed(body, one::<BatchOnWire>)
}

/// Reads a page of the list of files.
pub fn file_page(body: &[u8]) -> Result<Page<FileObject>, Unreadable> {
    parsed(body, page::<FileOnWire>)
}

/// Reads a page of the list of batches.
pub fn batch_page(body: &[u8]) -> Result<Page<BatchObject>, Unreadable> {
    parsed(body, page::<BatchOnWire>)
}

const NOT_JSON: Unreadable = Unreadable("the reply is not JSON");
const NOT_AN_OBJECT: Unreadable = Unreadable("the reply is not a JSON object");
const NO_ID: Unreadable = Unreadable("the reply has no id");
const AN_ERROR: Unreadable = Unreadable("the reply says success and holds an error");
const NOT_A_LIST: Unreadable = Unreadable("the reply is not a list");
const NO_CURSOR: Unreadable = Unreadable("the list goes on and does not say from where");

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

type Read<T> = serde_json::Result<Result<T, Unreadable>>;

fn parsed<T>(body: &[u8], read: impl Fn(&[u8]) -> Read<T>) -> Result<T, Unreadable> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let again = |_| mend::mended(body).and_then(|body| read(&body).ok()).unwrap_or(Err(NOT_JSON));
    read(body).unwrap_or_else(again)
}

/// What a file and a batch have in common on the wire.
trait OnWire: for<'de> Shape<'de> {
    type Object;

    /// Returns the object, unless it has no id or is an error that has one.
    fn told(self) -> Option<Self::Object>;

    fn id(object: &Self::Object) -> &str;
}

/// Together wraps a new batch in `job`, others in `data`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wrapper<'a> {
    #[serde(borrow)]
    job: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    error: Loose<Problems>,
}

impl<'de> Shape<'de> for Wrapper<'de> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        from_object(object)
    }
}

fn one<W: OnWire>(body: &[u8]) -> Read<W::Object> {
    if let Some(object) = object::<W>(body)? {
        return Ok(Ok(object));
    }
    let Loose::Is(wrapper) = serde_json::from_slice::<Loose<Wrapper<'_>>>(body)? else {
        return Ok(Err(NOT_AN_OBJECT));
    };
    let mut inner = [wrapper.job, wrapper.data].into_iter().flatten();
    let found = inner.find_map(|raw| object::<W>(raw.get().as_bytes()).ok().flatten());
    Ok(found.ok_or(if is_error(&wrapper.error) { AN_ERROR } else { NO_ID }))
}

fn object<W: OnWire>(json: &[u8]) -> serde_json::Result<Option<W::Object>> {
    Ok(serde_json::from_slice::<Loose<W>>(json)?.get().and_then(W::told))
}

fn is_error(error: &Loose<Problems>) -> bool {
    matches!(error, Loose::Is(Problems(problems)) if !problems.is_empty())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PageOnWire<'a> {
    object: Loose<String>,
    #[serde(borrow)]
    data: Loose<Entries<'a>>,
    has_more: Loose<Flag>,
    last_id: Loose<Id>,
    error: Loose<Problems>,
}

/// The entries of a list, each to be read by itself, so that one cannot spoil the others.
#[derive(Default)]
struct Entries<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Shape<'de> for Entries<'a> {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Some(Self(entries)))
    }
}

impl<'de> Shape<'de> for PageOnWire<'de> {
    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let data = Entries::list(list)?.map_or(Loose::Missing, Loose::Is);
        Ok(Some(Self { data, ..Self::default() }))
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        from_object(object)
    }
}

fn page<W: OnWire>(body: &[u8]) -> Read<Page<W::Object>> {
    let Loose::Is(page) = serde_json::from_slice::<Loose<PageOnWire<'_>>>(body)? else {
        return Ok(Err(NOT_A_LIST));
    };
    if is_error(&page.error) {
        return Ok(Err(AN_ERROR));
    }
    let says_list = page.object.get().as_deref() == Some("list");
    let Entries(entries) = match page.data {
        Loose::Is(entries) => entries,
        // How Go writes an empty list.
        Loose::Missing if says_list => Entries::default(),
        Loose::Missing | Loose::Wrong => return Ok(Err(NOT_A_LIST)),
    };
    let items: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            let object = object::<W>(entry.get().as_bytes()).ok().flatten()?;
            Some(Entry { object, raw: entry.get().to_owned() })
        })
        .collect();
    let is_last = page.has_more.get() != Some(Flag(true));
    let cursor = page.last_id.get().map(|Id(id)| id);
    let cursor = cursor.or_else(|| items.last().map(|item| W::id(&item.object).to_owned()));
    Ok(match cursor {
        _ if is_last => Ok(Page { items, next: None }),
        None if !entries.is_empty() => Err(NO_CURSOR),
        next => Ok(Page { items, next }),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileOnWire {
    object: Loose<String>,
    id: Loose<Id>,
    filename: Loose<String>,
    bytes: Loose<Count>,
    status: Loose<String>,
    error: Loose<Problems>,
}

impl OnWire for FileOnWire {
    type Object = FileObject;

    fn told(self) -> Option<FileObject> {
        if is_another(self.object) {
            return None;
        }
        let filename = self.filename.get().filter(|name| !name.is_empty());
        if filename.is_none() && is_error(&self.error) {
            return None;
        }
        Some(FileObject {
            id: given(self.id)?,
            filename,
            bytes: self.bytes.get().map(|Count(bytes)| bytes),
            status: self.status.get().map(|word| short(&word).to_ascii_lowercase()),
        })
    }

    fn id(object: &FileObject) -> &str {
        &object.id
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BatchOnWire {
    object: Loose<String>,
    id: Loose<Id>,
    status: Loose<String>,
    input_file_id: Loose<Id>,
    output_file_id: Loose<Id>,
    error_file_id: Loose<Id>,
    created_at: Loose<Moment>,
    expires_at: Loose<Moment>,
    request_counts: Loose<CountsOnWire>,
    errors: Loose<Problems>,
    /// Together's name for `errors`.
    error: Loose<Problems>,
    metadata: Loose<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CountsOnWire {
    total: Loose<Count>,
    completed: Loose<Count>,
    failed: Loose<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    overnight_batch: Loose<Id>,
}

object_shapes!(FileOnWire, BatchOnWire, CountsOnWire, Metadata);

impl OnWire for BatchOnWire {
    type Object = BatchObject;

    fn told(self) -> Option<BatchObject> {
        if is_another(self.object) {
            return None;
        }
        let word = self.status.get().unwrap_or_default();
        if word.is_empty() && is_error(&self.error) {
            return None;
        }
        let problems = |on_wire: Loose<Problems>| on_wire.get().unwrap_or_default().0;
        let mut errors = problems(self.errors);
        if errors.is_empty() {
            errors = problems(self.error);
        }
        Some(BatchObject {
            id: given(self.id)?,
            status: status::read(&word),
            word: short(&word),
            input_file_id: given(self.input_file_id),
            output_file_id: given(self.output_file_id),
            error_file_id: given(self.error_file_id),
            created_at: self.created_at.get().map(|Moment(at)| at),
            expires_at: self.expires_at.get().map(|Moment(at)| at),
            counts: self.request_counts.get().and_then(counts),
            errors,
            token: self.metadata.get().and_then(|metadata| given(metadata.overnight_batch)),
        })
    }

    fn id(object: &BatchObject) -> &str {
        &object.id
    }
}

/// Says whether an object tells of itself that it is a model's answer: some servers give one at every path.
fn is_another(object: Loose<String>) -> bool {
    const OTHERS: [&str; 4] = ["completion", "response", "embedding", "error"];
    object.get().is_some_and(|object| {
        let object = object.to_ascii_lowercase();
        OTHERS.iter().any(|other| object.contains(other))
    })
}

/// Returns the counts, or `None` where every one of them is null or absent.
fn counts(on_wire: CountsOnWire) -> Option<BatchCounts> {
    let [total, completed, failed] = [on_wire.total, on_wire.completed, on_wire.failed]
        .map(|count| count.get().map(|Count(count)| count));
    total.or(completed).or(failed)?;
    let or_none = |count: Option<u64>| count.unwrap_or(0);
    Some(BatchCounts {
        total: or_none(total),
        completed: or_none(completed),
        failed: or_none(failed),
    })
}

fn given(id: Loose<Id>) -> Option<String> {
    id.get().map(|Id(id)| id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::BatchEnd;
    use crate::provider::batch::input::TOKEN_KEY;

    fn batch(json: serde_json::Value) -> BatchObject {
        batch_object(json.to_string().as_bytes()).unwrap()
    }

    fn ids<T>(page: &Page<T>, id: impl Fn(&T) -> &str) -> String {
        page.items.iter().map(|item| id(&item.object)).collect::<Vec<_>>().join(" ")
    }

    fn batches(text: &str) -> (String, Option<String>) {
        let page = batch_page(text.as_bytes()).unwrap();
        (ids(&page, |batch| &batch.id), page.next)
    }

    fn is(ids: &str, next: Option<&str>) -> (String, Option<String>) {
        (ids.to_owned(), next.map(str::to_owned))
    }

    #[test]
    fn null_empty_and_absent_ids_are_alike() {
        for none in [json!(null), json!(""), json!(" "), json!([]), json!({}), json!(true)] {
            let got = batch(json!({"id": "b", "status": "completed", "input_file_id": none,
                "output_file_id": none, "error_file_id": none, "metadata": {TOKEN_KEY: none}}));
            assert_eq!(
                (got.input_file_id, got.output_file_id, got.error_file_id, got.token),
                (None, None, None, None)
            );
            let no_id = json!({"id": none, "status": "completed"}).to_string();
            assert_eq!(batch_object(no_id.as_bytes()), Err(NO_ID));
            assert_eq!(file_object(no_id.as_bytes()), Err(NO_ID));
        }
        assert_eq!(batch(json!({"id": "b"})).output_file_id, None);
        assert_eq!(batch(json!({"id": 17})).id, "17");
    }

    #[test]
    fn moments_are_read_in_every_form() {
        let ms = 1_795_435_200_000;
        let table = [
            (json!(1_795_435_200), Some(ms)),
            (json!(1_795_435_200.25), Some(ms + 250)),
            (json!("1795435200"), Some(ms)),
            (json!(" 1795435200.5 "), Some(ms + 500)),
            (json!(1_795_435_200_000_i64), Some(ms)),
            (json!("2026-11-23T12:00:00Z"), Some(ms)),
            (json!("2026-11-23T13:00:00.250+01:00"), Some(ms + 250)),
            (json!("2026-11-23T12:00:00.123456"), Some(ms + 123)),
            (json!("2026-11-23 12:00:00Z"), Some(ms)),
            (json!(null), None),
            (json!(""), None),
            (json!(0), None),
            (json!(-5), None),
            (json!(1e300), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!("tomorrow"), None),
            (json!({"at": 1}), None),
        ];
        for (value, wanted) in table {
            let got = batch(json!({"id": "b", "created_at": value, "expires_at": value}));
            assert_eq!(got.created_at, wanted.map(UnixMs), "{value}");
            assert_eq!(got.expires_at, wanted.map(UnixMs), "{value}");
        }
    }

    #[test]
    fn counts_that_are_null_are_no_counts() {
        let counted = |counts| batch(json!({"id": "b", "request_counts": counts})).counts;
        let none = json!({"total": null, "completed": null, "failed": null});
        for none in [none, json!(null), json!({}), json!([]), json!("3"), json!({"total": -1})] {
            assert_eq!(counted(none.clone()), None, "{none}");
        }
        assert_eq!(
            counted(json!({"total": 10, "completed": 1, "failed": null})),
            Some(BatchCounts { total: 10, completed: 1, failed: 0 })
        );
        let zero = json!({"total": 0, "completed": 0, "failed": 0});
        assert_eq!(counted(zero), Some(BatchCounts::default()));
    }

    #[test]
    fn an_error_that_says_success_is_no_object() {
        for body in [
            r#"{"error":{"message":"No such batch","type":"invalid_request_error"}}"#,
            r#"{"error":"gone"}"#,
            r#"{"id":"req_1","error":{"message":"secret"}}"#,
            r#"{"data":null,"error":{"code":404}}"#,
        ] {
            assert_eq!(batch_object(body.as_bytes()), Err(AN_ERROR), "{body}");
            assert_eq!(file_object(body.as_bytes()), Err(AN_ERROR), "{body}");
            assert_eq!(batch_page(body.as_bytes()), Err(AN_ERROR), "{body}");
        }
        let failed = batch(json!({"id": "b", "status": "FAILED", "error": "bad input"}));
        assert_eq!(failed.status, RemoteStatus::Ended(BatchEnd::Failed));
        assert_eq!(failed.errors[0].message, "bad input");
        let fine = batch(json!({"id": "b", "error": null, "errors": null}));
        assert_eq!((fine.errors, fine.status), (vec![], RemoteStatus::InProgress));
    }

    #[test]
    fn wrapped_objects_are_read() {
        for body in [
            json!({"job": {"id": "b", "status": "VALIDATING"}}),
            json!({"data": {"id": "b", "status": "VALIDATING"}, "error": null}),
            json!({"id": null, "job": 7, "data": {"id": "b", "status": "validating"}}),
        ] {
            let got = batch(body);
            assert_eq!((got.id.as_str(), got.status), ("b", RemoteStatus::Validating));
        }
        let file = json!({"data": {"id": "f", "filename": "x", "status": "Processed"}});
        let file = file_object(file.to_string().as_bytes()).unwrap();
        assert_eq!((file.id.as_str(), file.status.as_deref()), ("f", Some("processed")));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_no_empty_list() {
        for body in [
            "",
            "null",
            "7",
            "\"x\"",
            "{}",
            "<html>",
            "{\"data\":{}}",
            "{\"data\":\"\"}",
            "{\"data\":null}",
            "{\"object\":\"list\"",
            "{\"data\":[{\"id\":\"a\"}",
        ] {
            assert!(batch_page(body.as_bytes()).is_err(), "{body}");
            assert!(file_page(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(batches(r#"{"object":"list","data":null}"#), is("", None));
        assert_eq!(batches(r#"{"data":[]}"#), is("", None));
    }

    #[test]
    fn a_completion_is_neither_a_file_nor_a_batch() {
        for object in ["chat.completion", "text_completion", "response", "error"] {
            let body = format!(r#"{{"id":"chatcmpl-1","object":"{object}","status":"completed"}}"#);
            assert_eq!(file_object(body.as_bytes()), Err(NO_ID), "{object}");
            assert_eq!(batch_object(body.as_bytes()), Err(NO_ID), "{object}");
        }
        assert!(batch_object(br#"{"id":"b","object":"batch"}"#).is_ok());
    }

    #[test]
    fn entries_that_cannot_be_read_do_not_spoil_a_page() {
        let body = r#"{"data":[{"id":"a"},null,7,[],{},{"id":""},
            {"id":"x","id":"y"},{"id":"b","status":{}}],"has_more":false}"#;
        assert_eq!(batches(body), is("a b", None));
        assert_eq!(batches(r#"[{"id":"a"},{"id":"b"}]"#), is("a b", None));
        let body = b"{\"data\":[{\"id\":\"a\"},{\"id\":\"b\",\"x\":\"\xff \\ud83d\"}]}";
        assert_eq!(ids(&file_page(body).unwrap(), |file| &file.id), "a b");
    }

    #[test]
    fn a_page_says_where_the_list_goes_on() {
        let body = |rest: &str| format!(r#"{{"data":[{{"id":"a"}},{{"id":"b"}}]{rest}}}"#);
        assert_eq!(batches(&body(r#","has_more":true,"last_id":"c""#)), is("a b", Some("c")));
        assert_eq!(batches(&body(r#","has_more":true"#)), is("a b", Some("b")));
        assert_eq!(batches(&body(r#","has_more":"True","last_id":null"#)), is("a b", Some("b")));
        for last in [
            "",
            r#","last_id":"b""#,
            r#","has_more":false,"last_id":"b""#,
            r#","has_more":1"#,
            r#","has_more":null"#,
        ] {
            assert_eq!(batches(&body(last)), is("a b", None), "{last}");
        }
        assert_eq!(batch_page(br#"{"data":[{}],"has_more":true}"#), Err(NO_CURSOR));
        assert_eq!(batches(r#"{"data":[],"has_more":true}"#), is("", None));
    }

    proptest! {
        #[test]
        fn no_bytes_can_make_a_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (file_object(&body), batch_object(&body), file_page(&body), batch_page(&body));
        }

        #[test]
        fn no_value_of_a_field_costs_a_batch_its_id(
            field in prop::sample::select(&[
                "status", "input_file_id", "output_file_id", "error_file_id", "created_at",
                "expires_at", "request_counts", "errors", "metadata", "object", "endpoint", "data",
            ][..]),
            value in prop::sample::select(&[
                "null", "true", "-1.5e9", "\"\"", "\"secret\"", "[]", "[[{}]]", "{}",
                "{\"data\":[1]}", "{\"total\":{}}", "{\"overnight_batch\":3}",
            ][..]),
        ) {
            let body = format!("{{\"id\":\"b\",\"{field}\":{value}}}");
            prop_assert_eq!(batch_object(body.as_bytes()).unwrap().id, "b");
            let page = format!("{{\"data\":[{body}]}}");
            prop_assert_eq!(batch_page(page.as_bytes()).unwrap().items.len(), 1);
        }
    }
}
