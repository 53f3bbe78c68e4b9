//! Odd text on its whole way: from a table and a model through the record, its view and the export, and back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::batches::runs::query;
use support::{Act, Folder, Provider};

/// What breaks quoting somewhere: of CSV, SQL, JSON, shells, spreadsheets and terminals.
const ODD: [&str; 16] = [
    "plain",
    "it's \"quoted\" ''twice'' \"\"twice\"\"",
    "'); DROP TABLE request; --",
    "a,b;c\td|e",
    "line\nfeed\r\nand return\rend",
    "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f",
    "{\"json\": [1, \"x\\\"y\", null]}",
    "back\\slash \\n \\u0000 \\",
    "\u{1b}[31mred\u{1b}[0m\u{7}\u{8}",
    "\u{202e}turned\u{202c} \u{feff}\u{200b}",
    "=1+1",
    "@SUM(A1)",
    "$(touch x) `touch x` %PATH%",
    "한국어 😀 é e\u{301}",
    " spaces around ",
    "/* %s %n ? :a $1 @b",
];

fn odd_table(name: &str) -> Vec<u8> {
    let mut table = csv::Writer::from_writer(vec![]);
    table.write_record(["key", name, "answer"]).unwrap();
    for (nth, text) in ODD.iter().enumerate() {
        table.write_record([*text, text, &nth.to_string()]).unwrap();
    }
    table.into_inner().unwrap()
}

#[test]
fn odd_keys_cells_names_and_answers_come_back_as_they_were() {
    let column = "it's a \"column\"; --";
    // Each answer is the row's own text, with a NUL and more behind it.
    let provider = Provider::start(|request| {
        let text = request.text();
        Act::says(&format!("{text}\0 and \"{text}\""))
    });
    let folder = Folder::new();
    folder.write("odd.csv", odd_table(column));
    folder.write("odd.prompt", "{{ row[\"it's a \\\"column\\\"; --\"] }}");
    let url = provider.base_url();
    folder.ok(&["init", "--model", "openai/m'\";--", "--prompt", "odd.prompt", "--base-url", &url]);
    folder.ok(&["add", "odd.csv", "--key", "key"]);
    folder.ok(&["run", "--route", "realtime"]);
    let wanted: Vec<String> = ODD.iter().map(|text| format!("{text}\0 and \"{text}\"")).collect();

    let view = query(&folder, "SELECT key, cells, answer, model FROM answers ORDER BY position");
    for ((line, text), answer) in view.iter().zip(ODD).zip(&wanted) {
        assert_eq!((line[0].as_str(), &line[2]), (text, answer));
        assert_eq!(line[3], "openai/m'\";--");
        let cells: serde_json::Value = serde_json::from_str(&line[1]).unwrap();
        assert_eq!(cells[column], text);
    }
    let by_key = "SELECT count(*) FROM answers WHERE json_valid(cells) AND cells ->> '$.key' = key";
    assert_eq!(query(&folder, by_key), [[ODD.len().to_string()]]);

    for (args, is_safe) in
        [(&["export", "-"][..], false), (&["export", "-", "--formula-safe"], true)]
    {
        let text = folder.ok(args).stdout;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().nth(1), Some(column));
        for ((record, text), answer) in reader.records().map(Result::unwrap).zip(ODD).zip(&wanted) {
            for (cell, plain) in
                record.iter().zip([text, text]).chain([(&record[3], answer.as_str())])
            {
                let undone =
                    cell.strip_prefix('\'').filter(|_| is_safe && cell != plain).unwrap_or(cell);
                assert_eq!(undone, plain, "{args:?}");
                assert!(
                    !is_safe || !cell.starts_with(['=', '@', '+', '-', '\t', '\r']),
                    "{cell:?}"
                );
            }
        }
    }
    let lines = folder.ok(&["export", "-", "--format", "jsonl"]).stdout;
    assert_eq!(lines.matches('\n').count(), ODD.len(), "an answer ends no line");
    for ((line, text), answer) in lines.split_terminator('\n').zip(ODD).zip(&wanted) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&row["key"], &row[column]), (&text.into(), &text.into()));
        assert!(row.as_object().unwrap().values().any(|value| value == answer), "{row}");
    }
}

#[test]
fn what_is_shown_to_people_moves_no_cursor_and_hides_nothing() {
    let odd = "\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}evil\u{9b}31m";
    let provider = Provider::start(move |request| match request.text().as_str() {
        "bad" => Act::error(400, odd, &format!("the error {odd}")),
        _ => Act::finishes(&format!("the answer {odd}"), odd),
    });
    let folder = Folder::new();
    folder.write("rows.csv", format!("key,text\nk{odd},good\nb,bad\n"));
    let url = provider.base_url();
    folder.ok(&["init", "--model", "m", "--prompt", "{{ text }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "key"]);
    let run = folder.run(&["run", "--route", "realtime"]).ends(3);
    let shown = [&["show", "#1"][..], &["show", "#2"], &["status"], &["plan"]];
    let said = shown.map(|args| folder.run(args));
    for said in said.iter().chain([&run]) {
        for text in [&said.stdout, &said.stderr] {
            let hostile = text.contains(['\u{7}', '\u{9b}', '\u{202e}'])
                || text.contains("\u{1b}]")
                || text.contains("\u{1b}[2J");
            assert!(!hostile, "{said:?}");
        }
    }
}
