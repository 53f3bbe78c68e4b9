//! Bad input through the real binary: what is said of it, and that it leaves nothing half done.
//!
//! Each case ends with exit 1 or 2, says what is wrong and where, and changes no file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
mod transcript;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use support::{Folder, Provider};
use transcript::{settled, told, transcript};

/// All files below a folder with their bytes. The WAL's files come and go and are no change of the record.
fn all_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            for (inner, bytes) in all_files(&entry.path()) {
                files.insert(format!("{name}/{inner}"), bytes);
            }
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Runs commands that must each be refused and leave the folder byte for byte as it was.
#[track_caller]
fn refused(folder: &Folder, commands: &[&[&str]]) -> String {
    let before = all_files(folder.path());
    let mut all = String::new();
    for args in commands {
        let said = folder.run(args);
        assert!(matches!(said.code, Some(1 | 2)), "{args:?}: {said:#?}");
        assert!(said.stdout.is_empty(), "{args:?}: {said:#?}");
        assert!(said.stderr.starts_with("error: "), "{args:?}: {said:#?}");
        for word in ["panicked", "os error", "Error code", "Sqlite", "Some(", "Err(", ".part"] {
            assert!(!said.stderr.contains(word), "{args:?} says {word}: {said:#?}");
        }
        all += &told(args, &said);
        let after = all_files(folder.path());
        let names = |files: &BTreeMap<String, _>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after), "{args:?}: files came or went");
        for (name, bytes) in &before {
            assert!(bytes == &after[name], "{args:?} changed {name}");
        }
    }
    all
}

macro_rules! shows {
    ($name:literal, $transcript:expr) => {
        settled().bind(|| insta::assert_snapshot!($name, $transcript))
    };
}

/// An empty project with a prompt that names the column `text`.
fn project() -> Folder {
    let folder = Folder::new();
    folder.ok(&["init", "--prompt", "Say: {{ text }}", "--model", "simulated/small"]);
    folder
}

#[test]
fn a_table_that_is_broken_is_refused_with_its_place() {
    let folder = project();
    let tables: [(&str, &[u8]); 17] = [
        ("few.csv", b"id,text\n1,a\n2\n3,c\n"),
        ("many.csv", b"id,text\n1,a\n2,b,c\n"),
        ("same.csv", b"id,text,text\n1,a,b\n"),
        ("unnamed.csv", b"id,,text\n1,a,b\n"),
        ("empty.csv", b""),
        ("blank.csv", b"\n\n\n"),
        ("utf8.csv", b"\xef\xbb\xbfid,text\n1,a\n2,\xff\xfeb\n"),
        ("unclear.csv", b"id,text\n1,a\n2,\xff\xfeb\n"),
        ("nul.csv", b"id,text\n1,a\n2,x\0y\n"),
        ("open.csv", b"id,text\n1,\"a\n2,b\n3,c\n"),
        ("other.csv", b"id,note\n1,a\n"),
        ("near.csv", b"id,Text\n1,a\n"),
        ("array.jsonl", b"[{\"text\":\"a\"},{\"text\":\"b\"}]\n"),
        ("broken.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":}\n"),
        ("scalar.jsonl", b"{\"text\":\"a\"}\n3\n"),
        ("pretty.json", b"{\n\"text\": \"a\"\n}\n"),
        ("twice.jsonl", b"{\"text\":\"a\",\"text\":\"b\"}\n"),
    ];
    let mut all = String::new();
    for (name, bytes) in tables {
        folder.write(name, bytes);
        all += &refused(&folder, &[&["add", name]]);
    }
    shows!("broken_tables", all);
    assert_eq!(folder.status()["rows"], 0);
}

#[test]
fn a_key_that_names_no_row_or_two_is_refused() {
    let folder = project();
    folder.write("twice.csv", "id,text\n1,a\n2,b\n1,c\n").write("empty.csv", "id,text\n1,a\n,b\n");
    folder.write("missing.jsonl", "{\"id\":\"1\",\"text\":\"a\"}\n{\"text\":\"b\"}\n");
    folder.write("object.jsonl", "{\"id\":{\"x\":1},\"text\":\"a\"}\n");
    shows!(
        "broken_keys",
        refused(
            &folder,
            &[
                &["add", "twice.csv", "--key", "id"],
                &["add", "empty.csv", "--key", "id"],
                &["add", "twice.csv", "--key", "Id"],
                &["add", "twice.csv", "--key", "number"],
                &["add", "missing.jsonl", "--key", "id"],
                &["add", "object.jsonl", "--key", "id"],
            ]
        )
    );
}

#[test]
fn what_is_no_table_in_text_is_refused_with_a_way_to_make_one() {
    let folder = project();
    let mut book = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
    book.extend([0; 20]);
    book.extend(b"[Content_Types].xml");
    folder.write("book.xlsx", book).write("an.zip", b"PK\x03\x04\x14\0\0\0somefile");
    folder.write("a.parquet", b"PAR1\x15\x04").write("a.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    folder.write("named.csv", b"\x1f\x8b\x08\0\0\0\0\0\0\x03").write("a.csv", "text\na\n");
    fs::create_dir(folder.file("tables")).unwrap();
    shows!(
        "not_text",
        refused(
            &folder,
            &[
                &["add", "book.xlsx"],
                &["add", "an.zip"],
                &["add", "a.parquet"],
                &["add", "a.csv.gz"],
                &["add", "named.csv"],
                &["add", "overnight.db"],
                &["add", "tables"],
                &["add", "nowhere.csv"],
                &["add", "a.cvs"],
                &["add", "a.csv/b.csv"],
                &["add", "-", "-"],
                &["add", "-"],
                &["add", "a.csv", "--encoding", "klingon"],
                &["add", "a.csv", "--format", "xlsx"],
                &["add", "a.csv", "--delimiter", "ab"],
                &["add", "a.csv", "--delimiter", "한"],
            ]
        )
    );
}

#[test]
fn encodings_line_ends_and_delimiters_of_all_kinds_work() {
    let utf16: Vec<u8> =
        "\u{feff}id,text\n1,한국어 문장\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16_be: Vec<u8> =
        "\u{feff}id,text\n1,한국어 문장\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    // 한국어 문장 in CP949.
    let cp949 = b"id,text\n1,\xc7\xd1\xb1\xb9\xbe\xee \xb9\xae\xc0\xe5\n".to_vec();
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        ("utf16.csv", utf16, &[]),
        ("utf16be.csv", utf16_be, &[]),
        ("named.csv", cp949.clone(), &["--encoding", "cp949"]),
        ("euckr.csv", cp949, &["--encoding", "euc-kr"]),
        ("crlf.csv", "id,text\r\n1,한국어 문장\r\n".into(), &[]),
        ("bom.csv", "\u{feff}id,text\n1,한국어 문장\n".into(), &[]),
        ("semi.csv", "id;text\n1;한국어 문장\n".into(), &[]),
        ("tab.tsv", "id\ttext\n1\t한국어 문장".into(), &[]),
        ("bars.txt", "id|text\n1|한국어 문장\n".into(), &["--format", "csv", "--delimiter", "|"]),
    ];
    for (name, bytes, options) in cases {
        let folder = project();
        folder.write(name, bytes);
        folder.ok(&[&["add", name], options].concat());
        folder.ok(&["run", "--yes"]);
        folder.ok(&["export", "out.csv"]);
        let out = folder.read("out.csv");
        assert!(out.starts_with("id,text,answer,state\n1,한국어 문장,"), "{name}: {out}");
        assert!(out.ends_with(",answered\n"), "{name}: {out}");
    }
}

#[test]
fn korean_text_without_a_named_encoding_is_read_right_or_not_at_all() {
    let folder = project();
    let mut table = b"id,text\n".to_vec();
    for row in 0..20 {
        table.extend(format!("{row},").bytes());
        table.extend(
            b"\xc1\xa4\xb8\xbb \xc1\xc1\xc0\xba \xbb\xf3\xc7\xb0\xc0\xcc\xb3\xd7\xbf\xe4\n",
        );
    }
    folder.write("reviews.csv", table);
    let said = folder.run(&["add", "reviews.csv"]);
    if said.code == Some(0) {
        assert!(folder.ok(&["export"]).stdout.contains("정말 좋은 상품이네요"));
    } else {
        assert!(said.stderr.contains("--encoding"), "{said:#?}");
        assert_eq!(folder.status()["rows"], 0);
    }
}

#[test]
fn a_cell_of_fifty_megabytes_is_a_cell() {
    let folder = project();
    let mut table = b"id,text\n1,small\n2,\"".to_vec();
    table.resize(table.len() + 50_000_000, b'x');
    table.extend(b"\"\n3,small too\n");
    folder.write("big.csv", table);
    folder.ok(&["add", "big.csv", "--key", "id"]);
    let plan = folder.ok(&["plan", "--examples", "0", "--json"]).json();
    assert_eq!(plan["due"], 3);
    folder.ok(&["remove", "2"]);
    folder.ok(&["export", "out.csv"]);
    assert_eq!(
        folder.read("out.csv"),
        "id,text,answer,state\n1,small,,pending\n3,small too,,pending\n"
    );
}

#[test]
fn a_prompt_that_cannot_be_used_makes_no_project() {
    let folder = Folder::new();
    let prompts: [(&str, &[u8]); 15] = [
        ("empty.prompt", b""),
        ("latin.prompt", b"Hello\n\xff\xfe{{ text }}"),
        ("open.prompt", b"---\nmodel: m\n{{ text }}\n"),
        ("yaml.prompt", b"---\nmodel: [m\n---\n{{ text }}\n"),
        ("key.prompt", b"---\nmodel: m\nmax_token: 5\n---\n{{ text }}\n"),
        ("braces.prompt", b"---\nmodel: m\n---\nHello\n{{ text \n"),
        ("block.prompt", b"---\nmodel: m\n---\n{% if text %}x\n"),
        ("filter.prompt", b"---\nmodel: m\n---\n{{ text | shout }}\n"),
        ("one.prompt", b"---\nmodel: m\nchoices: [a]\n---\n{{ text }}\n"),
        ("equal.prompt", b"---\nmodel: m\nchoices: [a, a]\n---\n{{ text }}\n"),
        ("none.prompt", b"---\nmodel: m\nchoices: [a, null]\n---\n{{ text }}\n"),
        ("number.prompt", b"---\nmodel: m\nmax_tokens: lots\n---\n{{ text }}\n"),
        ("schema.prompt", b"---\nmodel: m\nschema: {type: strin}\n---\n{{ text }}\n"),
        ("file.prompt", b"---\nmodel: m\nschema: nowhere.json\n---\n{{ text }}\n"),
        ("model.prompt", b"{{ text }}\n"),
    ];
    let mut all = String::new();
    for (name, bytes) in prompts {
        folder.write(name, bytes);
        all += &refused(&folder, &[&["init", "--prompt", name]]);
    }
    fs::create_dir(folder.file("folder.prompt")).unwrap();
    all += &refused(
        &folder,
        &[
            &["init", "--prompt", "nowhere.prompt"],
            &["init", "--prompt", "prompts/nowhere"],
            &["init", "--prompt", "folder.prompt"],
            &["init", "--prompt", ""],
            &["init", "--prompt", "{{ text", "--model", "m", "--choices", "a,b"],
            &["init", "--prompt", "{{ text }}", "--model", "m", "--choices", "a"],
            &["init", "--prompt", "{{ text }}", "--model", "m", "--choices", "a,,b"],
            &["init", "--prompt", "key.prompt", "--choices", "a,b"],
            &["init", "--prompt", "{{ text }}", "--model", "m", "--name", "a@b"],
            &["init", "--prompt", "{{ text }}", "--model", "opena/x"],
            &["init", "--prompt", "{{ text }}", "--model", "openai/"],
            &["init", "--model", "m"],
            &["init", "--prompt"],
        ],
    );
    shows!("broken_prompts", all);
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_when_it_is_added() {
    let folder = project();
    folder.write("rows.csv", "id,text,두 단어\n1,a,b\n");
    folder.ok(&["add", "rows.csv"]);
    folder.write("latin.prompt", b"\xff\xfe{{ text }}");
    shows!(
        "unfit_prompts",
        refused(
            &folder,
            &[
                &["prompt", "add", "--text", "{{ txt }}", "--model", "m"],
                &[
                    "prompt",
                    "add",
                    "--text",
                    "{{ foo }} {{ bar }}",
                    "--model",
                    "m",
                    "--name",
                    "two"
                ],
                &["prompt", "add", "--text", "{{ text }}"],
                &["prompt", "add", "--text", "{{ text", "--model", "m"],
                &["prompt", "add", "nowhere.prompt"],
                &["prompt", "add", "latin.prompt"],
                &["prompt", "add", "."],
                &["prompt", "add"],
                &["prompt", "add", "rows.csv", "--text", "x"],
            ]
        )
    );
}

#[test]
fn a_base_url_that_is_none_is_refused_before_anything_is_made() {
    let folder = Folder::new();
    let urls = [
        "nonsense",
        "http://",
        "localhost:8000",
        "http://h/v1/chat/completions",
        "ftp://h/v1",
        "http://user:secret@h/v1",
        "http://h/v1?key=secret",
        "",
    ];
    let mut all = String::new();
    for url in urls {
        let args = ["init", "--prompt", "{{ text }}", "--model", "m", &format!("--base-url={url}")];
        let said = refused(&folder, &[&args]);
        assert!(!said.lines().skip(1).any(|line| line.contains("secret")), "{said}");
        all += &said;
    }
    shows!("base_urls", all);
    let mut folder = project();
    folder.write("rows.csv", "text\na\n");
    folder.ok(&["add", "rows.csv"]);
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "{{ text }}",
        "--name",
        "other",
        "--model",
        "gpt-4o-mini",
    ]);
    folder.env("OPENAI_BASE_URL", "localhost:1").env("OPENAI_API_KEY", "sk-x");
    shows!(
        "base_url_of_the_environment",
        refused(&folder, &[&["run"], &["run", "--base-url", "h"]])
    );
}

#[test]
fn without_a_key_nothing_is_sent_and_nothing_is_recorded() {
    let folder = Folder::new();
    folder.write("rows.csv", "text\na\n");
    folder.ok(&["init", "--prompt", "{{ text }}", "--model", "gpt-4o-mini"]);
    folder.ok(&["add", "rows.csv"]);
    let all = transcript(&folder, &[&["run"], &["run", "--yes", "--concurrency", "1"]]);
    shows!("no_key", all);
    assert_eq!(folder.status()["attempts"], 0);
    assert_eq!(folder.status()["last_run"], serde_json::Value::Null);
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
}

#[test]
fn a_broken_env_file_is_told_without_its_words_and_a_folder_of_that_name_is_none() {
    let provider = Provider::start(|_| support::Act::says("fine"));
    let folder = Folder::new();
    let url = provider.base_url();
    folder.write("rows.csv", "text\na\n");
    folder.ok(&["init", "--prompt", "{{ text }}", "--model", "m", "--base-url", &url]);
    folder.write(".env", "A=1\nOPENAI_API_KEY sk-very-secret\n");
    let mut all = transcript(&folder, &[&["add", "rows.csv"]]);
    folder.write(".env", "A=1\nKEY=\"sk-very-secret\nnever closed\n");
    all += &transcript(&folder, &[&["run"]]);
    folder.write(".env", b"OPENAI_API_KEY=\xff\xfesk-very-secret\n");
    all += &transcript(&folder, &[&["prompt", "show"]]);
    fs::remove_file(folder.file(".env")).unwrap();
    fs::create_dir(folder.file(".env")).unwrap();
    all += &transcript(&folder, &[&["prompt", "show"]]);
    assert!(!all.contains("secret"), "{all}");
    shows!("env_file", all);
}

#[test]
fn a_file_that_is_no_project_is_told_apart_and_left_alone() {
    let folder = Folder::new();
    folder.write("notes.txt", "hello\n").write("empty.db", "").write("rows.csv", "text\na\n");
    fs::create_dir(folder.file("folder.db")).unwrap();
    sql(&folder.file("other.db"), "CREATE TABLE a (b)");
    folder.ok(&["-p", "newer.db", "init"]);
    sql(&folder.file("newer.db"), "PRAGMA user_version = 999");
    let mut all = String::new();
    for file in ["notes.txt", "empty.db", "folder.db", "other.db", "newer.db", "no.db"] {
        all += &refused(&folder, &[&["-p", file, "status"]]);
        let others: [&[&str]; 9] = [
            &["add", "rows.csv"],
            &["run"],
            &["run", "--dry-run"],
            &["plan"],
            &["export", "out.csv"],
            &["show", "#1"],
            &["prompt", "list"],
            &["retry", "--failed"],
            &["remove", "rows.csv"],
        ];
        for command in others {
            refused(&folder, &[&[&["-p", file], command].concat()]);
        }
        if file != "no.db" {
            refused(&folder, &[&["-p", file, "init"]]);
        }
    }
    all += &refused(&folder, &[&["-p", "notes.txt", "init"], &["-p", "", "status"]]);
    shows!("no_project", all);
}

#[test]
fn a_project_is_not_made_over_a_file_or_where_none_can_be() {
    let folder = project();
    folder.write("notes.txt", "hello\n");
    let mut all = refused(
        &folder,
        &[
            &["init"],
            &["init", "--prompt", "{{ text }}", "--model", "m"],
            &["-p", "notes.txt/overnight.db", "init"],
            &["-p", "notes.txt/overnight.db", "status"],
            &["-p", "nowhere/overnight.db", "init"],
        ],
    );
    if cfg!(target_os = "linux") {
        all += &refused(&folder, &[&["-p", "/proc/overnight.db", "init"]]);
    }
    shows!("places_of_projects", all);
}

#[test]
fn a_damaged_project_is_read_right_or_refused_and_never_a_panic() {
    let folder = project();
    let rows: Vec<String> = (0..2000).map(|row| format!("{row},some text of row {row}")).collect();
    folder.write("rows.csv", format!("id,text\n{}\n", rows.join("\n")));
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run", "--limit", "20"]);
    let whole = fs::read(folder.file("overnight.db")).unwrap();
    let exported = folder.ok(&["export"]).stdout;
    folder.write("short.db", &whole[..whole.len() / 2]);
    folder.write("stub.db", &whole[..5000]);
    let mut zeroed = whole.clone();
    zeroed[20_000..].fill(0);
    folder.write("zeroed.db", zeroed);
    let mut all = String::new();
    for file in ["short.db", "stub.db", "zeroed.db"] {
        for command in [&["status"][..], &["plan"], &["export"], &["show", "17"], &["run"]] {
            let said = folder.run(&[&["-p", file], command].concat());
            assert!(matches!(said.code, Some(0 | 1 | 3)), "{file} {command:?}: {said:#?}");
            assert!(!said.stderr.contains("panicked"), "{file} {command:?}: {said:#?}");
            assert!(!said.stderr.contains("Error code"), "{file} {command:?}: {said:#?}");
            assert!(
                command != ["export"] || said.code == Some(1) || said.stdout == exported,
                "{file}: a table with holes was written as a whole one"
            );
        }
        all += &transcript(&folder, &[&["-p", file, "export", "out.csv"]]);
    }
    assert!(!folder.file("out.csv").exists());
    shows!("damaged", all);
}

#[test]
fn no_byte_of_a_project_that_is_overwritten_makes_a_panic() {
    let folder = project();
    folder.write("rows.csv", "id,text\n1,a\n2,b\n3,c\n");
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run"]);
    let whole = fs::read(folder.file("overnight.db")).unwrap();
    for step in 0..30 {
        let mut hurt = whole.clone();
        let at = whole.len() * step / 30;
        let end = (at + 300).min(whole.len());
        hurt[at..end].fill(0xa5);
        folder.write("hurt.db", &hurt);
        let all: [&[&str]; 2] = [&["status"], &["export", "out.csv"]];
        for command in all {
            let said = folder.run(&[&["-p", "hurt.db"], command].concat());
            assert!(matches!(said.code, Some(0 | 1)), "byte {at}, {command:?}: {said:#?}");
            assert!(!said.stderr.contains("panicked"), "byte {at}, {command:?}: {said:#?}");
            let is_told = said.stderr.starts_with("error: ") && said.stderr.contains("hint: ");
            assert!(said.code == Some(0) || is_told, "byte {at}, {command:?}: {said:#?}");
            for word in ["os error", "Error code", "Sqlite", "InvalidColumn", "Some("] {
                assert!(!said.stderr.contains(word), "byte {at}, {command:?}: {said:#?}");
            }
        }
    }
}

#[test]
fn an_export_that_cannot_be_written_leaves_nothing() {
    let folder = project();
    folder.write("rows.csv", "text\na\n").write("notes.txt", "hello\n");
    folder.ok(&["add", "rows.csv"]);
    fs::create_dir(folder.file("folder")).unwrap();
    let mut all = refused(
        &folder,
        &[
            &["export", "answers.xlsx"],
            &["export", "answers.parquet"],
            &["export", "answers"],
            &["export", "overnight.db"],
            &["export", "overnight.db", "--format", "csv"],
            &["export", "rows.csv"],
            &["export", "folder"],
            &["export", "nowhere/answers.csv"],
            &["export", "notes.txt/answers.csv"],
            &["export", "answers.jsonl", "--bom"],
            &["export", "--json"],
        ],
    );
    if cfg!(target_os = "linux") {
        all += &refused(&folder, &[&["export", "/proc/answers.csv"]]);
        all += &refused(&folder, &[&["export", "/dev/full", "--format", "csv"]]);
    }
    shows!("exports_to_nowhere", all);
}

#[test]
fn a_run_without_a_prompt_or_rows_says_what_is_missing() {
    let folder = Folder::new();
    folder.ok(&["init"]);
    let mut all = refused(&folder, &[&["run"], &["run", "--dry-run"], &["prompt", "show"]]);
    folder.ok(&["prompt", "add", "--text", "{{ text }}", "--name", "main", "--model", "m"]);
    all += &refused(&folder, &[&["run"], &["show", "5"], &["remove", "rows.csv"]]);
    let elsewhere = Folder::new();
    all += &refused(&elsewhere, &[&["run"], &["export", "out.csv"], &["add", "rows.csv"]]);
    shows!("nothing_there", all);
}

#[test]
fn what_is_asked_of_batches_and_cannot_be_done_is_refused_before_anything_is_sent() {
    let folder = project();
    folder.write("rows.csv", "id,text\n1,a\n");
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    let mut all = refused(
        &folder,
        &[
            &["run", "--by", "yesterday"],
            &["run", "--by", "2020-01-01T08:00:00Z"],
            &["run", "--by", "5"],
            &["run", "--by", "25:00"],
            &["run", "--by", "-1h"],
            &["run", "--by", "08:00", "--no-wait"],
            &["run", "--poll", "0"],
            &["run", "--poll", "often"],
            &["run", "--batch-size", "0"],
            &["run", "--batch-tokens", "-5"],
            &["run", "--oversized", "drop"],
            &["plan", "--route", "bus"],
            &["plan", "--batch-size", "0"],
            &["plan", "--limit", "0"],
            &["cancel"],
            &["cancel", "1"],
            &["cancel", "batch_of_somebody"],
            &["cancel", "1", "--all"],
            &["cancel", "--all", "--poll", "0"],
        ],
    );
    let prompt = ["prompt", "add", "--text", "{{ text }}", "--name", "other", "--model"];
    folder.ok(&[&prompt[..], &["anthropic/claude-haiku-4-5"]].concat());
    all += &refused(
        &folder,
        &[
            &["run", "--route", "batch"],
            &["run", "--route", "batch", "--dry-run"],
            &["plan", "--route", "batch"],
        ],
    );
    shows!("batches", without_now(&all));
}

/// Takes the present moment out of a message.
fn without_now(said: &str) -> String {
    let cut = |line: &str| match line.find("; it is 2") {
        Some(at) => format!("{}; it is NOW", &line[..at]),
        None => line.to_owned(),
    };
    said.lines().map(cut).collect::<Vec<_>>().join("\n")
}

#[expect(clippy::disallowed_methods, reason = "files of other programs are made by hand here")]
fn sql(path: &Path, statement: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(statement).unwrap();
}
