//! Keys: in memory and in the one header, and nowhere else, whatever a server makes of them; and never in the clear to
//! another machine, unless a person asks for that.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fmt::Write;

use serde_json::{Value, json};
use support::batches::runs::texts;
use support::batches::{BatchProvider, Script};
use support::{Act, Folder, Provider, completion};

/// It has what each disguise has to write in its own way.
const KEY: &str = "sk-proj-A/b+C=d_0123456789.nobody";

/// The key as each way of writing it has it.
fn disguises() -> Vec<String> {
    let each = |write: &dyn Fn(&mut String, u8)| {
        KEY.bytes().fold(String::new(), |mut all, byte| {
            write(&mut all, byte);
            all
        })
    };
    vec![
        KEY.to_owned(),
        KEY.replace('/', "\\/"),
        each(&|all, byte| write!(all, "\\u{byte:04x}").unwrap()),
        each(&|all, byte| write!(all, "%{byte:02X}").unwrap()),
        KEY.replace('/', "%2f").replace('+', "%2B").replace('=', "%3D"),
        each(&|all, byte| write!(all, "&#{byte};").unwrap()),
        base64(format!("Bearer {KEY}").as_bytes()),
        base64(format!("user:{KEY}").as_bytes()),
        base64(KEY.as_bytes()),
    ]
}

/// Base64, written here a second time.
fn base64(bytes: &[u8]) -> String {
    let digits: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0, |sum, at| sum << 8 | u32::from(*group.get(at).unwrap_or(&0)));
        for at in 0..=group.len() {
            text.push(digits[(number >> (18 - 6 * at)) as usize & 63]);
        }
    }
    text + &"=".repeat((3 - bytes.len() % 3) % 3)
}

/// Says whether a part of the key that is long enough to be of use stands there, in any disguise that a reader may undo.
fn is_told(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let has = |wanted: &str| text.contains(wanted);
    let inner = |way: &String| way[8..way.len() - 8].to_owned();
    has("0123456789.nobody") || has("sk-proj-A") || disguises().iter().any(|way| has(&inner(way)))
}

/// All texts and bytes of a table of the record.
fn values(conn: &rusqlite::Connection, table: &str) -> Vec<Vec<u8>> {
    use rusqlite::types::ValueRef::{Blob, Integer, Null, Real, Text};
    let mut statement = conn.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        all.extend((0..columns).filter_map(|column| match row.get_ref(column).unwrap() {
            Text(bytes) | Blob(bytes) => Some(bytes.to_vec()),
            Null | Integer(_) | Real(_) => None,
        }));
    }
    all
}

/// What was packed, by whichever dictionary it can be unpacked with.
fn unpacked(packed: &[u8], dictionaries: &[Vec<u8>]) -> Option<Vec<u8>> {
    dictionaries.iter().find_map(|dictionary| {
        let mut unpacker = zstd::bulk::Decompressor::with_dictionary(dictionary).unwrap();
        unpacker.decompress(packed, 1 << 20).ok()
    })
}

/// Demands that no file in a folder, and nothing that is packed in the record, tells the key.
fn nothing_tells(folder: &Folder) {
    for name in folder.names() {
        assert!(!is_told(&std::fs::read(folder.file(&name)).unwrap()), "{name} tells it");
    }
    #[expect(clippy::disallowed_methods, reason = "read as any other program would")]
    let conn = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut tables = conn.prepare(tables).unwrap();
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let dictionaries = [vec![Vec::new()], values(&conn, "dictionary")].concat();
    let mut packed = 0;
    for table in &tables {
        for value in values(&conn, table) {
            assert!(!is_told(&value), "{table}: {}", String::from_utf8_lossy(&value));
            if value.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                let plain = unpacked(&value, &dictionaries).unwrap();
                assert!(!is_told(&plain), "{table}: {}", String::from_utf8_lossy(&plain));
                packed += 1;
            }
        }
    }
    assert!(tables.len() > 10 && packed >= 8, "{} tables, {packed} packed", tables.len());
}

fn folder_at(url: &str, rows: usize, init: &[&str]) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", KEY);
    folder.write("rows.csv", format!("text\n{}\n", texts(rows).join("\n")));
    let args = ["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", url];
    folder.ok(&[&args, init].concat());
    folder.ok(&["add", "rows.csv"]);
    folder
}

/// Every command that says anything of what is on record.
fn everything_said(folder: &Folder) -> Vec<u8> {
    let commands: [&[&str]; 12] = [
        &["status"],
        &["status", "--json"],
        &["plan"],
        &["plan", "--json"],
        &["show", "#1"],
        &["show", "#1", "--json"],
        &["show", "#1", "--request"],
        &["export", "-", "--details"],
        &["export", "-", "--format", "jsonl", "--details"],
        &["prompt", "show"],
        &["run", "--dry-run", "-vvv"],
        &["run", "--help"],
    ];
    let said = commands.map(|args| folder.run(args)).map(|said| said.stdout + &said.stderr);
    said.concat().into_bytes()
}

#[test]
fn a_server_that_repeats_the_key_in_any_disguise_gets_it_nowhere() {
    // Four rows for each disguise: an answer, two kinds of errors, and one that nothing can be made of.
    let ways = disguises();
    let rows = ways.len() * 4;
    let provider = Provider::start(move |request| {
        assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
        let row: usize = request.text().trim_start_matches("row ").parse().unwrap();
        let quoted = &ways[row / 4 % ways.len()];
        let in_json = |body: &Value| body.to_string().replace("THE KEY", quoted).into_bytes();
        let names = ["x-request-id", "x-ratelimit-limit-requests", "x-should-retry"];
        let headers: Vec<_> = names.map(|name| (name.to_owned(), quoted.clone())).into();
        let mut answer = completion("it is THE KEY", "stop");
        (answer["id"], answer["model"]) = (json!("THE KEY"), json!("m THE KEY"));
        let error = json!({"error": {"message": "Incorrect key: THE KEY", "type": "THE KEY", "code": "THE KEY"}});
        let place = ("location".to_owned(), format!("https://x.{KEY}.example/{quoted}"));
        match (row % 4, request.seen) {
            (_, 0) if row == rows => Act::Reply(302, vec![place], Vec::new()),
            (1, 0) => Act::Reply(500, headers, in_json(&error)),
            (2, 0) => Act::Reply(502, headers, format!("<html>{quoted}</html>").into_bytes()),
            (3, 0) => Act::Reply(200, headers, quoted.clone().into_bytes()),
            _ => Act::Reply(200, headers, in_json(&answer)),
        }
    });
    let folder = folder_at(&provider.base_url(), rows, &[]);
    for args in [["run", "-vvv", "--json"], ["run", "-vvv", "--yes"]] {
        let said = folder.run(&args);
        assert!(matches!(said.code, Some(0 | 1)), "{said:?}");
        assert!(!is_told(said.stdout.as_bytes()) && !is_told(said.stderr.as_bytes()), "{said:?}");
    }
    assert_eq!(folder.status()["requests"]["answered"], rows);
    assert!(!is_told(&everything_said(&folder)));
    nothing_tells(&folder);
}

#[test]
fn nor_does_one_that_repeats_it_in_files_and_batches() {
    let provider = BatchProvider::start(Script {
        answer: Box::new(|ask| {
            support::batches::Inner::Says(format!("{} {}", ask.text, base64(KEY.as_bytes())))
        }),
        lines: Box::new(|_, output, error| {
            for line in output.iter_mut() {
                let mut object: Value = serde_json::from_slice(line).unwrap();
                object["response"]["request_id"] = json!(KEY);
                object["response"]["body"]["model"] = json!(format!("m {KEY}"));
                *line = object.to_string().into_bytes();
            }
            output.push(format!("{{\"custom_id\":\"{KEY}\"").into_bytes());
            error.push(format!("{KEY} and {KEY}").into_bytes());
        }),
        object: Box::new(|_, batch| {
            batch["errors"] = json!({"data": [{"code": KEY, "message": format!("key {KEY}")}]});
            batch["model"] = json!(KEY);
        }),
        ..Script::default()
    });
    let folder = folder_at(&provider.base_url(), 4, &[]);
    for _ in 0..2 {
        let said = folder.ok(&["run", "--route", "batch", "--poll", "20ms", "-vvv"]);
        assert!(!is_told(said.stdout.as_bytes()) && !is_told(said.stderr.as_bytes()), "{said:?}");
    }
    assert!(!is_told(&everything_said(&folder)));
    nothing_tells(&folder);
    // It is another key than the provider expects of other tests.
    assert!(provider.take_breaches().iter().all(|breach| breach.contains("the key is")));
}

#[test]
fn what_no_key_can_be_is_refused_without_a_word_of_it() {
    let provider = Provider::start(|_| Act::says("fine"));
    let mut folder = folder_at(&provider.base_url(), 1, &[]);
    for (key, told) in [
        ("sk-inner\nline-0123456789", "cannot be sent"),
        ("sk-inner\u{7f}-0123456789", "cannot be sent"),
        ("sk-한국어-0123456789", "cannot be sent"),
    ] {
        folder.env("OPENAI_API_KEY", key);
        let said = folder.run(&["run", "-vvv"]).ends(1);
        assert!(said.stderr.contains(told) && said.stderr.contains("OPENAI_API_KEY"), "{said:?}");
        assert!(!said.stderr.contains("0123456789"), "{said:?}");
    }
    assert_eq!(provider.count(), 0);
    // `export KEY=$(cat file)` and Windows leave these behind.
    folder.env("OPENAI_API_KEY", " sk-of-nobody-0123456789\r\n");
    folder.ok(&["run"]);
    assert_eq!(provider.requests()[0].headers["authorization"], "Bearer sk-of-nobody-0123456789");
}

#[cfg(unix)]
#[test]
fn a_key_that_is_no_text_is_not_taken_for_none() {
    use std::os::unix::ffi::OsStrExt;
    let provider = Provider::start(|_| Act::says("fine"));
    let folder = folder_at(&provider.base_url(), 1, &[]);
    let mut command = folder.command(&["run"]);
    command.env("OPENAI_API_KEY", std::ffi::OsStr::from_bytes(b"sk-\xff\xfe-0123456789"));
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && stderr.contains("OPENAI_API_KEY is no text"),
        "{stderr}"
    );
    assert_eq!(provider.count(), 0);
}

#[test]
fn a_key_does_not_go_over_plain_http_to_another_machine() {
    // Addresses of documentation: nobody is there, and a run that tried would say so.
    for host in [
        "192.0.2.1:8000",
        "10.255.255.1",
        "[2001:db8::1]:8000",
        "gpu.invalid:8000",
        "localhost.invalid",
        "0.0.0.0:9",
    ] {
        let url = format!("http://{host}/v1");
        let folder = folder_at(&url, 1, &[]);
        let said = folder.run(&["run", "--timeout", "5s"]).ends(2);
        for words in ["in the clear", "OPENAI_API_KEY", "--insecure-http", "https://"] {
            assert!(said.stderr.contains(words), "{host}: {said:?}");
        }
        assert!(!is_told(said.stderr.as_bytes()), "{said:?}");
        folder.run(&["run", "--base-url", &url]).ends(2);
        assert_eq!(folder.status()["attempts"], 0, "nothing was promised or sent");
    }
    // The environment's word counts like a typed one.
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", KEY).env("OPENAI_BASE_URL", "http://192.0.2.1/v1");
    folder.write("rows.csv", "text\none\n");
    folder.ok(&["init", "--model", "m", "--prompt", "{{ text }}"]);
    folder.ok(&["add", "rows.csv"]);
    folder.run(&["run"]).ends(2);
    folder.run(&["run", "--route", "batch"]).ends(2);
}

#[test]
fn init_warns_of_it_where_it_is_typed() {
    let mut folder = Folder::new();
    let init = [
        "init",
        "--model",
        "m",
        "--prompt",
        "{{ text }}",
        "--base-url",
        "http://192.0.2.1:8000/v1",
    ];
    folder.env("OPENAI_API_KEY", KEY);
    let said = folder.ok(&init);
    assert!(
        said.stderr.contains("192.0.2.1 is another machine")
            && said.stderr.contains("--insecure-http"),
        "{said:?}"
    );
    let other = Folder::new();
    assert!(
        !other.ok(&init).stderr.contains("another machine"),
        "a server that needs no key is fine"
    );
}

#[test]
fn it_goes_where_a_person_asks_for_that_or_where_there_is_no_key() {
    // Nobody is there: what matters is that it was tried.
    let tries = |folder: Folder, args: &'static [&'static str]| {
        std::thread::spawn(move || {
            let said = folder.run(&[&["run", "--timeout", "1s"], args].concat());
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(!said.stderr.contains("in the clear"), "{said:?}");
            assert!(folder.status()["attempts"].as_u64().unwrap() > 0, "{said:?}");
        })
    };
    let url = "http://nobody.invalid:8000/v1";
    let with = |name: &str, value: &str| {
        let mut folder = folder_at(url, 1, &[]);
        folder.env(name, value);
        folder
    };
    let in_file = folder_at(url, 1, &[]);
    in_file.write(".env", "OVERNIGHT_INSECURE_HTTP=yes\n");
    let all = [
        tries(folder_at(url, 1, &[]), &["--insecure-http"]),
        tries(with("OVERNIGHT_INSECURE_HTTP", "1"), &[]),
        tries(in_file, &[]),
        tries(with("OPENAI_API_KEY", ""), &[]),
    ];
    for one in all {
        one.join().unwrap();
    }
    let mut folder = folder_at(url, 1, &[]);
    folder.env("OVERNIGHT_INSECURE_HTTP", "0");
    folder.run(&["run"]).ends(2);
}

#[test]
fn this_machine_is_near_by_any_of_its_names() {
    let provider = Provider::start(|_| Act::says("fine"));
    let port = provider.base_url().split(':').nth(2).unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f.1", "LOCALHOST", "[::ffff:127.0.0.1]"] {
        let mut folder = folder_at(&format!("http://{host}:{port}"), 1, &[]);
        folder.env("NO_PROXY", "*");
        let said = folder.run(&["run", "--timeout", "5s"]);
        assert!(!said.stderr.contains("in the clear"), "{host}: {said:?}");
        if !host.starts_with('[') {
            assert_eq!(said.code, Some(0), "{host}: {said:?}");
        }
    }
}
