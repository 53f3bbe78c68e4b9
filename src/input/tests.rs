//! Whole tables through [`super::open`]: what comes out of files as they are found.

use std::io::Read;

use proptest::prelude::*;
use serde_json::Value;

use super::text::CHUNK;
use super::{Format, InputError, Problem, TableOptions, open};
use crate::domain::{Fingerprint, Identity, SourceFacts};

/// A row, owned: its line, its cells and what makes it itself.
type Row = (u64, String, String);

macro_rules! fixture {
    ($name:literal) => {
        (&include_bytes!(concat!("../../fixtures/tables/", $name))[..], $name)
    };
}

fn read(
    (bytes, name): (&[u8], &str),
    options: &TableOptions,
) -> Result<(Vec<Row>, SourceFacts), InputError> {
    let mut table = open(bytes, name, options)?;
    let mut rows = Vec::new();
    while let Some(row) = table.next_row()? {
        let identity = match row.identity {
            Identity::Key(key) => key.to_owned(),
            Identity::Content(hash) => Fingerprint(hash).to_string().replacen("r1:", "", 1),
        };
        rows.push((row.line, row.cells_json.to_owned(), identity));
    }
    Ok((rows, table.finish()?))
}

fn cells(input: (&[u8], &str)) -> Vec<(u64, String)> {
    let (rows, _) = read(input, &TableOptions::default()).unwrap();
    rows.into_iter().map(|(line, cells, _)| (line, cells)).collect()
}

fn facts(input: (&[u8], &str)) -> SourceFacts {
    read(input, &TableOptions::default()).unwrap().1
}

fn error(input: (&[u8], &str)) -> String {
    read(input, &TableOptions::default()).unwrap_err().to_string()
}

fn with_key(column: &str) -> TableOptions {
    TableOptions { key_column: Some(column.to_owned()), ..TableOptions::default() }
}

fn in_encoding(name: &str) -> TableOptions {
    TableOptions { encoding: Some(name.to_owned()), ..TableOptions::default() }
}

fn lines(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
    rows.iter().map(|&(line, cells)| (line, cells.to_owned())).collect()
}

#[test]
fn korean_reads_the_same_in_cp949_utf8_and_utf16() {
    let cp949 = cells(fixture!("korean_cp949.csv"));
    assert_eq!(cp949[1].1, r#"{"번호":"2","이름":"김펲시","후기":"똠방각하, 쀍, 펲시콜라"}"#);
    assert_eq!(cp949.iter().map(|row| row.0).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(facts(fixture!("korean_cp949.csv")).encoding, "EUC-KR");
    assert_eq!(cells(fixture!("utf16le_bom.csv")), cp949);
    assert_eq!(facts(fixture!("utf16le_bom.csv")).encoding, "UTF-16LE");

    let utf8 = cells(fixture!("korean_utf8_bom.csv"));
    assert_eq!(utf8[..2], cp949[..2]);
    assert_eq!(cells(fixture!("utf16be_no_bom.tsv")), utf8);
    let facts = facts(fixture!("utf16be_no_bom.tsv"));
    assert_eq!((facts.encoding.as_str(), facts.format.as_str()), ("UTF-16BE", "tsv"));
}

#[test]
fn korean_that_starts_after_a_long_ascii_part_is_recognized() {
    let mut bytes = b"id,text\n".to_vec();
    for id in 0..60_000 {
        bytes.extend(format!("{id},plain\n").bytes());
    }
    assert!(bytes.len() > 2 * CHUNK);
    bytes.extend(encoding_rs::EUC_KR.encode("60000,쀍 좋아요\n").0.iter());
    let (rows, facts) = read((&bytes, "a.csv"), &TableOptions::default()).unwrap();
    assert_eq!(rows[60_000].1, r#"{"id":"60000","text":"쀍 좋아요"}"#);
    assert_eq!(facts.encoding, "EUC-KR");
}

#[test]
fn a_broken_byte_far_into_a_utf8_file_is_an_error_with_its_place() {
    let mut bytes = "id,text\n1,한국\n".as_bytes().to_vec();
    while bytes.len() < 3 * CHUNK {
        bytes.extend("2,다시는 안 사요\n".as_bytes());
    }
    let lines = bytes.split(|&byte| byte == b'\n').count();
    let at = bytes.len() + 3;
    bytes.extend(b"3,\xe9t\xe9\n");
    assert_eq!(
        error((&bytes, "a.csv")),
        format!("a.csv, line {lines}, column 3: invalid UTF-8 (byte {at} of the file)")
    );
    assert_eq!(
        error(fixture!("broken_utf8.csv")),
        "broken_utf8.csv, line 3, column 5: invalid UTF-8 (byte 29 of the file)"
    );
}

#[test]
fn a_single_byte_encoding_must_be_named() {
    let input = fixture!("windows1252.csv");
    let refused = read(input, &TableOptions::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "windows1252.csv, line 2, column 4: not UTF-8 (from byte 12 of the file on); \
         it looks like windows-1252"
    );
    assert_eq!(refused.hint().unwrap(), "if that is right, pass --encoding windows-1252");
    let (rows, facts) = read(input, &in_encoding("cp1252")).unwrap();
    assert_eq!(rows[1].1, r#"{"id":"2","name":"Café São João"}"#);
    assert_eq!(facts.encoding, "windows-1252");
}

#[test]
fn a_named_encoding_is_taken_and_checked() {
    let input = fixture!("korean_cp949.csv");
    for name in ["cp949", "MS949", "uhc", "euc-kr"] {
        assert_eq!(read(input, &in_encoding(name)).unwrap().1.encoding, "EUC-KR");
    }
    let wrong = read(input, &in_encoding("utf-8")).unwrap_err().to_string();
    assert_eq!(wrong, "korean_cp949.csv, line 1, column 1: invalid UTF-8 (byte 1 of the file)");
    let wrong = read((b"a,b\n1,\xc7\xd1\n2,\xc7!\n", "a.csv"), &in_encoding("cp949")).unwrap_err();
    let place = "a.csv, line 3, column 3: invalid EUC-KR (byte 12 of the file)";
    assert_eq!(wrong.to_string(), place);
    let unknown = read(input, &in_encoding("klingon")).unwrap_err();
    assert!(unknown.hint().unwrap().contains("cp949"));
    let marked = read(fixture!("utf16le_bom.csv"), &in_encoding("cp949")).unwrap();
    assert_eq!(marked.1.encoding, "UTF-16LE");
    assert_eq!(facts(fixture!("japanese_sjis.csv")).encoding, "Shift_JIS");
}

#[test]
fn delimiters_are_found_and_options_win() {
    let semicolon = cells(fixture!("semicolon.csv"));
    assert_eq!(semicolon[0].1, r#"{"id":"1","price":"1,50","text":"a; b"}"#);
    assert_eq!(cells(fixture!("pipe.txt"))[0].1, r#"{"id":"1","text":"hello, world"}"#);
    let excel = cells(fixture!("excel_sep.csv"));
    assert_eq!(excel, lines(&[(3, r#"{"id":"1","text":"a,b"}"#)]));

    let comma = TableOptions { delimiter: Some(','), ..TableOptions::default() };
    let (_, facts) = read((b"a;b,c\n1;2,3\n", "-"), &comma).unwrap();
    assert_eq!(facts.columns, ["a;b", "c"]);
    for delimiter in ['"', '\n', '가', '\0'] {
        let options = TableOptions { delimiter: Some(delimiter), ..TableOptions::default() };
        let refused = read((b"a\n", "-"), &options).unwrap_err();
        assert!(matches!(refused.problem(), Problem::BadDelimiter(_)));
    }
}

#[test]
fn quoted_newlines_stay_in_cells_and_lines_are_physical() {
    let expected = [
        (2, r#"{"id":"1","text":"first\r\nsecond\r\n"}"#),
        (6, r#"{"id":"2","text":"say \"hi\", please"}"#),
        (7, r#"{"id":"3","text":"5\" pipe"}"#),
        (8, r#"{"id":"4","text":"x"}"#),
    ];
    assert_eq!(cells(fixture!("quoted_newlines.csv")), lines(&expected));
}

#[test]
fn carriage_returns_alone_end_lines() {
    let expected = [
        (2, r#"{"id":"1","text":"one"}"#),
        (3, r#"{"id":"2","text":"two\rlines"}"#),
        (5, r#"{"id":"3","text":"three"}"#),
    ];
    assert_eq!(cells(fixture!("old_mac.csv")), lines(&expected));
}

#[test]
fn blank_lines_are_skipped_and_counted() {
    let expected = [(4, r#"{"id":"1","text":"a"}"#), (7, r#"{"id":"2","text":"b"}"#)];
    assert_eq!(cells(fixture!("trailing_blank_lines.csv")), lines(&expected));
    let expected = [(3, r#"{"a":"1"}"#), (5, r#"{"a":""}"#)];
    assert_eq!(cells((b"a\n\n1\n\n\"\"\n\n", "one.csv")), lines(&expected));
}

#[test]
fn a_header_without_rows_is_a_table_and_nothing_is_not() {
    let empty = read(fixture!("header_only.csv"), &TableOptions::default()).unwrap();
    assert_eq!((empty.0.len(), empty.1.columns.len()), (0, 2));
    let message = "it is empty: not even a line of column names";
    for input in [fixture!("blank.csv"), (b"", "blank.csv"), (b"\xef\xbb\xbf", "blank.csv")] {
        assert_eq!(error(input), format!("blank.csv: {message}"));
    }
    assert_eq!(error((b"", "-")), format!("standard input: {message}"));
    assert!(cells((b"\n", "a.jsonl")).is_empty());
}

#[test]
fn headers_must_tell_columns_apart() {
    assert_eq!(
        error(fixture!("duplicate_header.csv")),
        "duplicate_header.csv, line 1: columns number 1 and 3 are both called \"id\""
    );
    assert_eq!(
        error(fixture!("unnamed_column.csv")),
        "unnamed_column.csv, line 1: column number 3 has no name in the header"
    );
}

#[test]
fn ragged_records_are_named_by_line_and_numbers() {
    assert_eq!(error(fixture!("ragged.csv")), "ragged.csv, line 5: 3 fields, the header has 4");
    let joined = read((b"a,b\n1,\"x\n2,y\n3\",z,w\n4,v", "j.csv"), &TableOptions::default());
    let joined = joined.unwrap_err();
    assert_eq!(
        joined.to_string(),
        "j.csv, line 2: 4 fields, the header has 2 (the record runs to line 4)"
    );
    assert_eq!(joined.hint().unwrap(), "a quote that is not closed on line 2 joins lines");
    let more = read((b"a,b\n1,2,3", "m.csv"), &TableOptions::default()).unwrap_err();
    assert!(more.hint().unwrap().contains("','"), "{:?}", more.hint());
}

#[test]
fn quotes_that_would_swallow_rows_are_errors() {
    assert_eq!(
        error(fixture!("unclosed_quote.csv")),
        "unclosed_quote.csv, line 3: the quote that opens here is never closed"
    );
    let stray = read(fixture!("stray_quotes.csv"), &TableOptions::default()).unwrap_err();
    assert_eq!(
        stray.to_string(),
        "stray_quotes.csv, line 3: text after the closing quote of a cell that began on line 2"
    );
    let spaces = cells((b"a,b\n\"x\ny\" ,\"say\" so\n", "a.csv"));
    assert_eq!(spaces, lines(&[(2, r#"{"a":"x\ny ","b":"say so"}"#)]));
}

#[test]
fn a_nul_is_an_error_with_its_place() {
    assert_eq!(error(fixture!("nul.csv")), "nul.csv, line 3, column 4: NUL byte in the text");
    assert_eq!(
        error((b"{\"a\":1}\n{\"b\":\"\0\"}\n", "a.jsonl")),
        "a.jsonl, line 2, column 7: NUL byte in the text"
    );
    assert_eq!(
        error((br#"{"a":"x\u0000"}"#, "a.jsonl")),
        "a.jsonl, line 1, column 8: a string holds a NUL (\\u0000)"
    );
}

#[test]
fn json_lines_keep_values_digits_and_order() {
    let (rows, facts) = read(fixture!("reviews.jsonl"), &TableOptions::default()).unwrap();
    let expected = [
        (1, r#"{"id":1,"text":"배송이 빨라요","price":12345678901234567890.10}"#),
        (2, "{\"id\":2,\"text\":\"a/b \u{1f642} A\",\"tags\":[\"x\",{\"y\":null}],\"price\":1E5}"),
        (4, "{\"price\":-0.0,\"id\":\"three\",\"ok\":true,\"text\":\"line\u{2028}separator\"}"),
    ];
    let got: Vec<_> = rows.into_iter().map(|(line, cells, _)| (line, cells)).collect();
    assert_eq!(got, lines(&expected));
    assert_eq!(facts.columns, ["id", "text", "price", "tags", "ok"]);
    assert_eq!((facts.format.as_str(), facts.encoding.as_str()), ("jsonl", "UTF-8"));
}

#[test]
fn a_line_that_is_not_one_object_is_an_error_with_its_place() {
    let cases: [(&[u8], &str); 10] = [
        (b"{\"a\":1}\n{\"a\":}\n", "line 2, column 6: expected a value"),
        (b"{\"a\":1}\n[1]\n", "line 2, column 1: expected an opening brace {"),
        (b"{\"a\":1}{\"a\":2}\n", "line 1, column 8: expected the end of the line after"),
        (b"{\n  \"a\":1\n}\n", "line 1: the JSON object that starts here goes on"),
        (b"{\"a\":1,\n\"b\":2}\n", "line 1, column 9: expected a name in double quotes"),
        (b"{\"\xea\xb0\x80\":1 2}", "line 1, column 8: expected a comma or } after a value"),
        (b"{\"a\":1,\"a\":2}", "line 1, column 8: the name \"a\" stands twice"),
        (b"{\"a\":NaN}", "line 1, column 6: JSON has no NaN"),
        (b"{\"\":1}", "line 1, column 2: a name is empty"),
        (b"{\"a\":\"cut", "line 1, column 10: expected a closing quote"),
    ];
    for (bytes, message) in cases {
        let error = error((bytes, "a.jsonl"));
        assert!(error.starts_with(&format!("a.jsonl, {message}")), "{error}");
    }
    assert_eq!(
        error(fixture!("lone_surrogate.jsonl")),
        "lone_surrogate.jsonl, line 2, column 17: an escape is half of a surrogate pair, \
         which is no character"
    );
    let deep = format!("{{\"a\":{}", "[".repeat(1_000_000));
    assert!(error((deep.as_bytes(), "a.jsonl")).ends_with("nest too deep"));
}

#[test]
fn formats_are_told_by_option_name_and_content() {
    assert_eq!(Format::from_name("dir.csv/REVIEWS.NDJSON"), Some(Format::Jsonl));
    assert_eq!(Format::from_name("a.tab"), Some(Format::Tsv));
    for name in ["-", "a.txt", "a.csv.gz", ".csv", "csv"] {
        assert_eq!(Format::from_name(name), None, "{name}");
    }
    assert_eq!(facts((b" \n{\"a\":1}\n", "-")).format, "jsonl");
    assert_eq!(facts((b"a\tb\n1\t2\n", "-")).format, "tsv");
    assert_eq!(facts((b"a b\n1\n", "-")).format, "csv");
    let jsonl = TableOptions { format: Some(Format::Jsonl), ..TableOptions::default() };
    assert!(read((b"a,b\n", "a.csv"), &jsonl).is_err());
    let tsv = TableOptions { format: Some(Format::Tsv), ..TableOptions::default() };
    assert_eq!(read((b"a,b\n1,2\n", "a.csv"), &tsv).unwrap().1.columns, ["a,b"]);
}

#[test]
fn other_files_are_named_with_what_to_do() {
    let array = read(fixture!("array.json"), &TableOptions::default()).unwrap_err();
    assert!(matches!(array.problem(), Problem::JsonArray));
    assert_eq!(array.hint().unwrap(), "jq -c '.[]' array.json | overnight add - --format jsonl");
    let cases: [(&[u8], &str, &str); 4] = [
        (b"\x1f\x8b\x08", "a b.csv.gz", "gunzip -c 'a b.csv.gz' | overnight add -"),
        (b"\x1f\x8b\x08", "-", "pipe it through `gunzip -c` first"),
        (
            b"PK\x03\x04 [Content_Types].xml",
            "a.xlsx",
            "save the sheet as \"CSV UTF-8\" and add that file",
        ),
        (b"PAR1", "a.csv", "write it as CSV or JSON Lines first, for example with DuckDB"),
    ];
    for (bytes, name, hint) in cases {
        let refused = read((bytes, name), &TableOptions::default()).unwrap_err();
        assert!(matches!(refused.problem(), Problem::NotText { .. }), "{refused}");
        assert_eq!(refused.hint().unwrap(), hint);
    }
}

#[test]
fn a_key_is_the_text_of_its_cell() {
    let keys = |input: (&[u8], &str)| {
        let (rows, _) = read(input, &with_key("id")).unwrap();
        rows.into_iter().map(|row| row.2).collect::<Vec<_>>()
    };
    assert_eq!(keys((b"text,id\na,007\nb,\" x \"\n", "a.csv")), ["007", " x "]);
    let bytes = b"{\"id\":1.50}\n{\"id\":\"a\\n\\u00e9\"}\n";
    assert_eq!(keys((bytes, "a.jsonl")), ["1.50", "a\né"]);
}

#[test]
fn a_key_that_says_nothing_is_an_error_with_its_line() {
    let refused = |bytes: &[u8], name| read((bytes, name), &with_key("id")).unwrap_err();
    let cases: [(&[u8], &str, u64); 4] = [
        (b"id,a\n1,x\n,y\n", "a.csv", 3),
        (b"id,a\n1,x\n\" \",y\n", "a.csv", 3),
        (b"{\"id\":1}\n{\"id\":null}", "a.jsonl", 2),
        (b"{\"id\":1}\n{\"id\":\" \\t\"}", "a.jsonl", 2),
    ];
    for (bytes, name, line) in cases {
        let message = format!("{name}, line {line}: the key column \"id\" is empty");
        assert_eq!(refused(bytes, name).to_string(), message);
    }
    assert_eq!(
        refused(b"{\"id\":1}\n{\"Id\":2,\"a\":3}", "a.jsonl").to_string(),
        "a.jsonl, line 2: the key column \"id\" is missing; this object has Id, a"
    );
    assert_eq!(
        refused(b"{\"id\":[1]}", "a.jsonl").to_string(),
        "a.jsonl, line 1, column 7: the key column \"id\" holds an array; \
         a key is a string or a number"
    );
    let unknown = refused(b"Id,text\n1,a\n", "a.csv");
    assert_eq!(unknown.to_string(), "a.csv: there is no column \"id\"; the columns are Id, text");
    assert_eq!(unknown.hint().unwrap(), "did you mean --key Id?");
}

#[test]
fn identity_v1_never_changes() {
    // Computed apart from this program; what changes these breaks every project file there is.
    let csv = "이름,id\n\"홍 \"\"길동\"\"\",1\n";
    let (rows, _) = read((csv.as_bytes(), "a.csv"), &TableOptions::default()).unwrap();
    assert_eq!(rows[0].2, "315a6cf6232f1a3691249336c4ef4633ead57de161448053b84132e96ccb8dfb");
    let jsonl =
        b"{ \"b\": 12345678901234567890.10, \"a\": [1, {\"y\": null, \"x\": \"\\u0041\"}] }";
    let (rows, _) = read((jsonl, "a.jsonl"), &TableOptions::default()).unwrap();
    assert_eq!(rows[0].2, "be701c84ed96d4038bd5c07d5dece6830324d2e6da0fc130fd13cfb362cccedc");
}

#[test]
fn identity_is_of_cells_and_not_of_how_they_are_written() {
    let of =
        |bytes: &[u8], name| read((bytes, name), &TableOptions::default()).unwrap().0[0].2.clone();
    let first = of(b"id,text\n1,a\n", "a.csv");
    assert_eq!(of(b"text;id\r\n\"a\";\"1\"\r\n", "b.csv"), first);
    assert_eq!(of(b"{\"text\" : \"\\u0061\", \"id\":\"1\"}", "c.jsonl"), first);
    assert_ne!(of(b"{\"text\":\"a\",\"id\":1}", "c.jsonl"), first);
    assert_ne!(of(b"id,text\n1,b\n", "a.csv"), first);
}

#[test]
fn the_facts_are_of_the_bytes_of_the_file() {
    let (bytes, name) = fixture!("korean_cp949.csv");
    let facts = facts((bytes, name));
    assert_eq!(facts.bytes, bytes.len() as u64);
    assert_eq!(facts.sha256[..], <sha2::Sha256 as sha2::Digest>::digest(bytes)[..]);
}

#[test]
fn a_cell_of_fifty_megabytes_is_a_cell() {
    let head = b"id,text\n1,\"".as_slice();
    let huge = std::io::repeat(b'\n').take(50_000_000);
    let reader = head.chain(huge).chain(&b"\"\n2,b\n"[..]);
    let mut table = open(reader, "-", &TableOptions::default()).unwrap();
    let row = table.next_row().unwrap().unwrap();
    assert_eq!((row.line, row.cells_json.len()), (2, 100_000_000 + 20));
    let row = table.next_row().unwrap().unwrap();
    assert_eq!((row.line, row.cells_json), (50_000_003, r#"{"id":"2","text":"b"}"#));
}

#[test]
fn records_are_whole_wherever_chunks_end() {
    for shift in 0..24 {
        let padding = "x".repeat(CHUNK - 24 + shift);
        let mut text = format!("a,b\r\n{padding},\r\n");
        text.push_str(&"\"p\"\"q\r\nr\",é\r\n".repeat(3));
        let rows = cells((text.as_bytes(), "a.csv"));
        let row = r#"{"a":"p\"q\r\nr","b":"é"}"#;
        assert_eq!(rows[1..], lines(&[(3, row), (5, row), (7, row)]), "shift {shift}");
    }
}

#[test]
fn a_quote_that_never_closes_does_not_take_all_memory() {
    let head = b"id,text\n1,\"".as_slice();
    let reader = head.chain(std::io::repeat(b'x'));
    let refused = open(reader, "-", &TableOptions::default()).unwrap().next_row().unwrap_err();
    assert!(matches!(refused.problem(), Problem::RecordTooLarge { .. }));
    assert_eq!(refused.line(), Some(2));
}

#[test]
fn a_reader_that_fails_is_an_error_with_its_cause() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable"))
        }
    }
    let failed = open((&b"a\n1\n"[..]).chain(Broken), "-", &TableOptions::default()).err().unwrap();
    assert_eq!(failed.to_string(), "standard input: cannot be read");
    assert_eq!(std::error::Error::source(&failed).unwrap().to_string(), "the cable");
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof!["[^\0]{0,12}", "[,;|\t\"\r\n a가\u{1f642}\\\\]{0,12}", "[a-z가-힣 ]{0,20}",]
}

fn tables() -> impl Strategy<Value = Vec<Vec<String>>> {
    (1_usize..6).prop_flat_map(|width| {
        proptest::collection::vec(proptest::collection::vec(cell(), width), 0..8)
    })
}

proptest! {
    #[test]
    fn any_table_that_the_csv_crate_writes_is_read_back(
        rows in tables(),
        delimiter in proptest::sample::select(vec![b',', b';', b'\t', b'|']),
        style in proptest::sample::select(vec![csv::QuoteStyle::Always, csv::QuoteStyle::Necessary, csv::QuoteStyle::NonNumeric]),
        terminator in proptest::sample::select(vec![b'\n', b'\r', 0]),
    ) {
        let end = if terminator == 0 { csv::Terminator::CRLF } else { csv::Terminator::Any(terminator) };
        let mut writer = csv::WriterBuilder::new()
            .delimiter(delimiter)
            .quote_style(style)
            .terminator(end)
            .from_writer(Vec::new());
        let width = rows.first().map_or(1, Vec::len);
        let columns: Vec<String> = (0..width).map(|number| format!("c{number}")).collect();
        writer.write_record(&columns).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let options = TableOptions { delimiter: Some(char::from(delimiter)), encoding: Some("utf-8".into()), ..TableOptions::default() };
        let (read, _) = read((&bytes, "a.csv"), &options).unwrap();
        let cells: Vec<Vec<String>> = read
            .iter()
            .map(|row| {
                let object: serde_json::Map<String, Value> = serde_json::from_str(&row.1).unwrap();
                object.values().map(|value| value.as_str().unwrap().to_owned()).collect()
            })
            .collect();
        prop_assert_eq!(cells, rows);
    }

    #[test]
    fn any_bytes_are_rows_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in proptest::sample::select(vec!["a.csv", "a.tsv", "a.jsonl", "-"])) {
        let _ = read((&bytes, name), &TableOptions::default());
    }

    #[test]
    fn records_agree_with_the_csv_crate(text in "[ab,\"\n\r ]{0,40}") {
        let text = format!("h,i\n{text}");
        let mut theirs = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let theirs: Vec<Vec<String>> = theirs
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .take_while(|record: &Vec<String>| record.len() == 2)
            .collect();
        let options = TableOptions { delimiter: Some(','), ..TableOptions::default() };
        let mut table = open(text.as_bytes(), "a.csv", &options).unwrap();
        let mut number = 0;
        while let Ok(Some(row)) = table.next_row() {
            let cells: Value = serde_json::from_str(row.cells_json).unwrap();
            prop_assert_eq!(&cells["h"], &theirs[number][0]);
            prop_assert_eq!(&cells["i"], &theirs[number][1]);
            number += 1;
        }
    }
}
