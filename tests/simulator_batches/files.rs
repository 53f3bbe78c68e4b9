//! Files: what is taken, what is refused, and how they are found again.

use serde_json::{Value, json};

use crate::client::input;
use crate::simulated::Served;

#[test]
fn an_uploaded_file_can_be_looked_at_downloaded_and_removed() {
    let served = Served::with(|_| {});
    let text = input(2);
    let file = served.upload(&text).unwrap();
    let id = file.id().to_owned();
    let expected = json!({"object": "file", "id": id, "purpose": "batch", "filename": "in.jsonl",
        "bytes": text.len(), "created_at": 1_767_225_600, "expires_at": 1_767_225_600 + 2_592_000,
        "status": "processed", "status_details": null});
    assert_eq!((file.status, file.json()), (200, expected.clone()));
    assert_eq!(served.get(&format!("/v1/files/{id}")).json(), expected);
    let content = served.content(&json!(id));
    assert_eq!(content.body, text.as_bytes());
    assert_eq!(content.headers["content-type"], "application/octet-stream");
    let delete =
        || served.send(format!("DELETE /v1/files/{id} HTTP/1.1\r\nhost: x\r\n\r\n")).unwrap();
    assert_eq!(delete().json(), json!({"object": "file", "id": id, "deleted": true}));
    for reply in [delete(), served.get(&format!("/v1/files/{id}")), served.content(&json!(id))] {
        assert_eq!(reply.status, 404);
        let told = format!("No such File object: {id}");
        assert_eq!(reply.json()["error"]["message"], told);
    }
    assert_eq!(served.ledger().totals.files_uploaded, 1);
    served.stop();
}

#[test]
fn forms_that_openai_would_not_take_are_refused_by_name() {
    let served = Served::with(|settings| settings.batch_bytes = 100);
    let file: (&str, &[u8]) = ("in.jsonl", b"{}");
    let large = vec![b'x'; 101];
    let anchor = ("expires_after[anchor]", "created_at");
    let refused = |fields: &[(&str, &str)], file: Option<(&str, &[u8])>| {
        let reply = served.form(fields, file).unwrap();
        let error = reply.json()["error"].clone();
        (reply.status, error["param"].clone(), error["code"].clone())
    };
    let batch = ("purpose", "batch");
    for (fields, file, param, code) in [
        (vec![], Some(file), json!("purpose"), json!("missing_required_parameter")),
        (vec![batch], None, json!("file"), json!("missing_required_parameter")),
        (vec![batch, ("file", "{}")], None, json!("file"), json!("missing_required_parameter")),
        (vec![("purpose", "batch_output")], Some(file), json!("purpose"), json!("invalid_value")),
        (vec![batch, ("note", "x")], Some(file), json!("note"), json!("unknown_parameter")),
        (vec![batch, batch], Some(file), json!("purpose"), json!("duplicate_parameter")),
        (
            vec![batch, anchor],
            Some(file),
            json!("expires_after.seconds"),
            json!("missing_required_parameter"),
        ),
        (
            vec![batch, anchor, ("expires_after[seconds]", "3599")],
            Some(file),
            json!("expires_after.seconds"),
            json!("integer_below_min_value"),
        ),
        (
            vec![batch, anchor, ("expires_after[seconds]", "2592001")],
            Some(file),
            json!("expires_after.seconds"),
            json!("integer_above_max_value"),
        ),
        (
            vec![batch, anchor, ("expires_after[seconds]", "soon")],
            Some(file),
            json!("expires_after.seconds"),
            json!("invalid_type"),
        ),
        (
            vec![batch, ("expires_after[anchor]", "now"), ("expires_after[seconds]", "3600")],
            Some(file),
            json!("expires_after.anchor"),
            json!("invalid_value"),
        ),
        (
            vec![batch, ("expires_after.seconds", "3600")],
            Some(file),
            json!("expires_after.seconds"),
            json!("unknown_parameter"),
        ),
        (vec![batch], Some(("in.json", b"{}".as_slice())), Value::Null, Value::Null),
    ] {
        assert_eq!(refused(&fields, file), (400, param, code), "{fields:?}");
    }
    let too_large = Some(("in.jsonl", large.as_slice()));
    assert_eq!(refused(&[batch], too_large), (413, Value::Null, json!("request_too_large")));
    let taken = |fields: &[(&str, &str)], file| served.form(fields, Some(file)).unwrap().status;
    assert_eq!(taken(&[("purpose", "user_data")], ("a.txt", large.as_slice())), 200);
    assert_eq!(taken(&[batch], ("in.jsonl", &large[..100])), 200);
    assert_eq!(taken(&[batch, anchor, ("expires_after[seconds]", "3600")], file), 200);
    assert_eq!(served.ledger().totals.files_uploaded, 3);
}

#[test]
fn the_wrong_ending_is_told_in_openais_words() {
    let served = Served::with(|_| {});
    let reply = served.form(&[("purpose", "batch")], Some(("in.csv", b"{}"))).unwrap();
    let told = "Invalid file format for Batch API. Must be .jsonl";
    let expected = json!({"error": {"message": told, "type": "invalid_request_error",
        "param": null, "code": null}});
    assert_eq!((reply.status, reply.json()), (400, expected));
}

#[test]
fn what_is_no_form_is_refused() {
    let served = Served::with(|_| {});
    let reply = served.post("/v1/files", &json!({"purpose": "batch"})).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (400, "unsupported_content_type"));
    for (boundary, body) in
        [("", "--edge--"), ("; boundary=edge", "--edge\r\nnonsense"), ("; boundary=edge", "")]
    {
        let request = format!(
            "POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data{boundary}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(served.send(request).unwrap().status, 400, "{boundary} {body}");
    }
    assert_eq!(served.ledger().totals.files_uploaded, 0);
}

#[test]
fn a_form_without_an_announced_length_is_read_as_it_comes() {
    let served = Served::with(|_| {});
    let text = input(300);
    let body = format!(
        "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{text}\r\n\
         --edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--edge--\r\n"
    );
    let mut request = String::from(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; \
         boundary=edge\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    for chunk in body.as_bytes().chunks(7_001) {
        let chunk = std::str::from_utf8(chunk).unwrap();
        request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    request.push_str("0\r\n\r\n");
    let file = served.send(request).unwrap();
    assert_eq!((file.status, &file.json()["bytes"]), (200, &json!(text.len())));
    assert_eq!(served.content(&json!(file.id())).body, text.as_bytes());
}

#[test]
fn files_are_listed_by_purpose_order_and_page() {
    let served = Served::with(|_| {});
    let mut ids = Vec::new();
    for n in 0..5 {
        let purpose = if n == 2 { "user_data" } else { "batch" };
        let file = served.form(&[("purpose", purpose)], Some(("in.jsonl", b"{}"))).unwrap();
        ids.push(file.id().to_owned());
    }
    let list = |query: &str| {
        let list = served.get(&format!("/v1/files{query}")).json();
        let data = list["data"].as_array().unwrap();
        let listed: Vec<_> = data.iter().map(|file| file["id"].as_str().unwrap()).collect();
        let places: Vec<_> =
            listed.iter().map(|id| ids.iter().position(|other| other == id).unwrap()).collect();
        assert_eq!(list["first_id"].as_str(), listed.first().copied());
        assert_eq!(list["last_id"].as_str(), listed.last().copied());
        (places, list["has_more"].as_bool().unwrap())
    };
    assert_eq!(list(""), (vec![4, 3, 2, 1, 0], false));
    assert_eq!(list("?order=asc&limit=2"), (vec![0, 1], true));
    assert_eq!(list(&format!("?order=asc&limit=3&after={}", ids[1])), (vec![2, 3, 4], false));
    assert_eq!(list(&format!("?limit=3&after={}", ids[4])), (vec![3, 2, 1], true));
    assert_eq!(list("?purpose=user_data"), (vec![2], false));
    assert_eq!(list("?purpose=evals"), (vec![], false));
    for (query, code) in [
        ("?limit=0", "integer_below_min_value"),
        ("?limit=10001", "integer_above_max_value"),
        ("?limit=few", "invalid_type"),
        ("?order=up", "invalid_value"),
        ("?status=processed", "unknown_parameter"),
    ] {
        let reply = served.get(&format!("/v1/files{query}"));
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{query}");
    }
    assert_eq!(served.get("/v1/files?after=file-none").status, 404);
}

#[test]
fn files_of_some_purposes_are_kept_back() {
    let served = Served::with(|_| {});
    let file = served.form(&[("purpose", "user_data")], Some(("a.txt", b"x"))).unwrap();
    let reply = served.content(&json!(file.id()));
    assert_eq!(reply.status, 400);
    let told = "Not allowed to download files of purpose: user_data";
    assert_eq!(reply.json()["error"]["message"], told);
}

#[test]
fn the_key_and_the_method_are_checked_everywhere() {
    let served = Served::with(|settings| settings.api_key = Some("sk-right".to_owned()));
    for path in ["/v1/files", "/v1/files/f", "/v1/files/f/content", "/v1/batches", "/v1/batches/b"]
    {
        assert_eq!(served.get(path).code(), "invalid_api_key", "{path}");
    }
    assert_eq!(served.upload("{}").unwrap().status, 401);
    assert_eq!(served.create("f").unwrap().status, 401);
    assert_eq!(served.cancel(&json!({"id": "b"})).status, 401);
    for (path, allowed) in [("/v1/files/f", "GET, DELETE"), ("/v1/batches/b", "GET")] {
        let reply = served.post(path, &json!({})).unwrap();
        assert_eq!((reply.status, reply.headers["allow"].as_str()), (405, allowed));
    }
}
