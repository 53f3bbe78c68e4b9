//! Whole tables, row by row, as files.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::{
    AnswerCell, AnswerDetails, AnswerRow, BatchId, FailureClass, Fingerprint, NanoUsd, State,
    UnixMs, Usage,
};
use crate::machine::plan::Liveness;

const CSV: Format = Format::Csv(CsvStyle { mark: Mark::Without, formulas: Formulas::AsTheyAre });
const SAFE: Format = Format::Csv(CsvStyle { mark: Mark::Without, formulas: Formulas::Defused });

fn prompt(name: &str, answer: AnswerKind) -> PromptPart {
    PromptPart { name: name.into(), version: 2, model: "openai/gpt-5-mini".into(), answer }
}

fn object(fields: &[&str]) -> AnswerKind {
    AnswerKind::Object(fields.iter().map(|&field| field.to_owned()).collect())
}

fn shape(columns: &[&str], prompts: Vec<PromptPart>) -> Shape {
    Shape {
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        naming: if prompts.len() > 1 { Naming::ByPrompt } else { Naming::Plain },
        prompts,
        details: Details::Without,
        form: Form::Wide,
        liveness: Liveness::Idle,
    }
}

fn cell(state: State, answer: Option<&str>) -> AnswerCell {
    AnswerCell { state, answer: answer.map(str::to_owned), details: None }
}

fn answered(answer: &str) -> AnswerCell {
    cell(State::Answered, Some(answer))
}

fn row(position: i64, cells: &str, answers: Vec<AnswerCell>) -> AnswerRow {
    AnswerRow { position, key: position.to_string(), cells: cells.to_owned(), answers }
}

fn write(shape: Shape, format: Format, rows: &[AnswerRow]) -> String {
    select(shape, format, &[], rows).0
}

fn select(
    shape: Shape,
    format: Format,
    only: &[&'static str],
    rows: &[AnswerRow],
) -> (String, Written) {
    let selection = Selection(only.to_vec());
    let mut table = Table::start(Vec::new(), format, Layout::new(shape), selection).unwrap();
    for row in rows {
        table.row(row).unwrap();
    }
    let (bytes, written) = table.finish().unwrap();
    (String::from_utf8(bytes).unwrap(), written)
}

fn details() -> AnswerDetails {
    AnswerDetails {
        route: Some("batch".into()),
        batch: Some(BatchId(7)),
        provider_request_id: Some("req_1".into()),
        finish_reason: Some("stop".into()),
        usage: Usage { input: 120, cached: 20, cache_write: 0, output: 5, reasoning: 1 },
        cost: Some(NanoUsd(1_000_042_500)),
        attempts: 2,
        error: None,
        answered_at: Some(UnixMs(1_760_000_000_123)),
        fingerprint: Some(Fingerprint([0xab; 32])),
    }
}

fn text_shape(columns: &[&str]) -> Shape {
    shape(columns, vec![prompt("main", AnswerKind::Text)])
}

#[test]
fn a_csv_that_is_safe_for_spreadsheets_has_no_cell_that_one_runs() {
    let details = AnswerDetails { error: Some("@error".to_owned()), ..details() };
    let answer = AnswerCell { details: Some(details), ..answered("=cmd|' /C calc'!A0") };
    let rows = [
        row(1, r#"{"=id":-5,"text":"+3.2"}"#, vec![answer]),
        row(2, r#"{"=id":"-2+3","text":"a;=1"}"#, vec![answered("\t=1")]),
    ];
    let shape = Shape { details: Details::With, ..text_shape(&["=id", "text"]) };
    let text = write(shape.clone(), SAFE, &rows);
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let lines: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(&lines[0][0], "'=id");
    let cells: Vec<&str> = lines[1].iter().collect();
    assert_eq!(cells[..3], ["-5", "+3.2", "'=cmd|' /C calc'!A0"]);
    assert!(cells.contains(&"'@error"), "{cells:?}");
    assert_eq!(lines[2].iter().take(3).collect::<Vec<_>>(), ["'-2+3", "a;=1", "'\t=1"]);
    assert!(text.contains(",\"a;=1\","), "no other separator starts a cell");
    let plain = write(shape, CSV, &rows);
    assert!(plain.starts_with("=id,text,answer") && plain.contains("\n-5,+3.2,=cmd"), "{plain}");
}

#[test]
fn csv_keeps_every_cell_as_it_was() {
    let rows = [
        row(1, r#"{"id":"007","text":"a, \"b\"\nc\r"}"#, vec![answered(" so, yes\n")]),
        row(2, r#"{"id":12345678901234567890123,"text":-0.10}"#, vec![cell(State::Pending, None)]),
        row(3, r#"{"text":null,"id":true}"#, vec![answered("")]),
        row(4, r#"{"id":{"a":[1.0, "x"]},"text":"=1+1"}"#, vec![answered("한국어")]),
    ];
    assert_eq!(
        write(text_shape(&["id", "text"]), CSV, &rows),
        "id,text,answer,state\n\
         007,\"a, \"\"b\"\"\nc\r\",\" so, yes\n\",answered\n\
         12345678901234567890123,-0.10,,pending\n\
         true,,,answered\n\
         \"{\"\"a\"\":[1.0, \"\"x\"\"]}\",=1+1,한국어,answered\n"
    );
}

#[test]
fn a_byte_order_mark_is_written_only_when_asked_for() {
    let plain = write(text_shape(&["이름"]), CSV, &[]);
    assert_eq!(plain, "이름,answer,state\n");
    let marked = write(
        text_shape(&["이름"]),
        Format::Csv(CsvStyle { mark: Mark::With, ..CsvStyle::default() }),
        &[],
    );
    assert_eq!(marked, format!("\u{feff}{plain}"));
    assert_eq!(write(shape(&[], vec![]), CSV, &[]), "");
}

#[test]
fn a_line_of_one_empty_cell_is_still_a_line() {
    let rows = [row(1, r#"{"a":""}"#, vec![]), row(2, r#"{"a":null}"#, vec![])];
    let written = write(shape(&["a"], vec![]), CSV, &rows);
    assert_eq!(written, "a\n\"\"\n\"\"\n");
    assert_eq!(::csv::Reader::from_reader(written.as_bytes()).records().count(), 2);
}

#[test]
fn rows_of_different_sources_share_the_union_of_columns() {
    let rows = [
        row(1, r#"{"a":"1","b":"2"}"#, vec![answered("x")]),
        row(2, r#"{"c":"3","a":"4"}"#, vec![answered("y")]),
    ];
    let shape = text_shape(&["a", "b", "c"]);
    assert_eq!(
        write(shape.clone(), CSV, &rows),
        "a,b,c,answer,state\n1,2,,x,answered\n4,,3,y,answered\n"
    );
    assert_eq!(
        write(shape, Format::Jsonl, &rows),
        "{\"a\":\"1\",\"b\":\"2\",\"answer\":\"x\",\"state\":\"answered\"}\n\
         {\"c\":\"3\",\"a\":\"4\",\"answer\":\"y\",\"state\":\"answered\"}\n"
    );
}

#[test]
fn json_lines_keep_types_digits_and_order() {
    let rows = [
        row(1, r#"{"z":1.50,"a":{"x":1e400},"s":"\u0001\n"}"#, vec![answered("\"q\"\u{2028}")]),
        row(2, "{}", vec![cell(State::Truncated, None)]),
        // Somebody wrote into the file by hand.
        row(3, " {\n\"a\":\r\n1 } ", vec![answered("y")]),
    ];
    assert_eq!(
        write(text_shape(&["z", "a", "s"]), Format::Jsonl, &rows),
        "{\"z\":1.50,\"a\":{\"x\":1e400},\"s\":\"\\u0001\\n\",\"answer\":\"\\\"q\\\"\u{2028}\",\"state\":\"answered\"}\n\
         {\"answer\":null,\"state\":\"truncated\"}\n\
         {\"a\":  1,\"answer\":\"y\",\"state\":\"answered\"}\n"
    );
    assert_eq!(write(shape(&[], vec![]), Format::Jsonl, &rows[1..2]), "{}\n");
}

#[test]
fn fields_of_a_schema_stand_in_columns_of_their_own() {
    let one = shape(&["id"], vec![prompt("main", object(&["who", "when", "tags", "sure"]))]);
    let answer = r#"{"sure":true,"who":"Kim \"J\"","when":null,"tags":["a",1.0]}"#;
    let rows = [
        row(1, r#"{"id":"1"}"#, vec![answered(answer)]),
        row(2, r#"{"id":"2"}"#, vec![cell(State::Failed(FailureClass::Refused), None)]),
    ];
    assert_eq!(
        write(one.clone(), CSV, &rows),
        "id,answer.who,answer.when,answer.tags,answer.sure,state\n\
         1,\"Kim \"\"J\"\"\",,\"[\"\"a\"\",1.0]\",true,answered\n\
         2,,,,,failed\n"
    );
    let lines = write(one, Format::Jsonl, &rows);
    assert_eq!(
        lines.lines().next().unwrap(),
        r#"{"id":"1","answer.who":"Kim \"J\"","answer.when":null,"answer.tags":["a",1.0],"answer.sure":true,"state":"answered"}"#
    );
}

#[test]
fn fields_that_the_schema_does_not_name_are_counted() {
    let one = shape(&[], vec![prompt("main", object(&["a"]))]);
    let rows = [
        row(1, "{}", vec![answered(r#"{"a":1,"b":2}"#)]),
        row(2, "{}", vec![answered(r#"{"a":1}"#)]),
    ];
    let (text, written) = select(one, CSV, &[], &rows);
    assert_eq!(
        (text.as_str(), written.with_other_fields),
        ("answer.a,state\n1,answered\n1,answered\n", 1)
    );
}

#[test]
fn an_answer_without_named_fields_is_whole() {
    let one = shape(&[], vec![prompt("main", object(&[]))]);
    let rows = [row(1, "{}", vec![answered(r#"{"b":2}"#)])];
    assert_eq!(write(one.clone(), CSV, &rows), "answer,state\n\"{\"\"b\"\":2}\",answered\n");
    assert_eq!(write(one, Format::Jsonl, &rows), "{\"answer\":{\"b\":2},\"state\":\"answered\"}\n");
}

#[test]
fn the_long_form_has_a_line_for_each_prompt() {
    let prompts = vec![prompt("tone", AnswerKind::Text), prompt("facts", object(&["a"]))];
    let mut both = shape(&["id"], prompts);
    both.form = Form::Long;
    let rows = [row(1, r#"{"id":"1"}"#, vec![answered("ok"), answered(r#"{"a":1}"#)])];
    assert_eq!(
        write(both.clone(), CSV, &rows),
        "id,prompt,answer,state\n1,tone,ok,answered\n1,facts,\"{\"\"a\"\":1}\",answered\n"
    );
    assert_eq!(
        write(both, Format::Jsonl, &rows),
        "{\"id\":\"1\",\"prompt\":\"tone\",\"answer\":\"ok\",\"state\":\"answered\"}\n\
         {\"id\":\"1\",\"prompt\":\"facts\",\"answer\":{\"a\":1},\"state\":\"answered\"}\n"
    );
}

#[test]
fn only_rows_in_a_wanted_state_are_written_and_all_are_counted() {
    let prompts = vec![prompt("a", AnswerKind::Text), prompt("b", AnswerKind::Text)];
    let both = shape(&["id"], prompts);
    let failed = || cell(State::Failed(FailureClass::Timeout), None);
    let rows = [
        row(1, r#"{"id":"1"}"#, vec![answered("x"), failed()]),
        row(2, r#"{"id":"2"}"#, vec![answered("y"), answered("z")]),
        row(3, r#"{"id":"3"}"#, vec![cell(State::Pending, None), cell(State::InBatch, None)]),
    ];
    let (text, written) = select(both.clone(), CSV, &["failed", "pending"], &rows);
    assert_eq!(
        text,
        "id,a.answer,a.state,b.answer,b.state\n1,x,answered,,failed\n3,,pending,,in_batch\n"
    );
    assert_eq!((written.lines, written.rows, written.in_state("answered")), (2, 3, 3));
    assert_eq!((written.in_state("failed"), written.in_state("in_batch")), (1, 1));
    let long = Shape { form: Form::Long, ..both };
    let (text, _) = select(long, CSV, &["failed"], &rows);
    assert_eq!(text, "id,prompt,answer,state\n1,b,,failed\n");
}

#[test]
fn what_is_in_flight_with_no_run_on_is_in_doubt() {
    let rows = [row(1, "{}", vec![cell(State::InFlight, None)])];
    let mut one = text_shape(&[]);
    let (text, written) = select(one.clone(), CSV, &["in_doubt"], &rows);
    assert_eq!((text.as_str(), written.in_state("in_doubt")), ("answer,state\n,in_doubt\n", 1));
    one.liveness = Liveness::Running;
    assert_eq!(write(one, CSV, &rows), "answer,state\n,in_flight\n");
}

#[test]
fn details_say_how_an_answer_came_about() {
    let made = AnswerCell { details: Some(details()), ..answered("yes") };
    let rows = [row(1, "{}", vec![made]), row(2, "{}", vec![cell(State::Pending, None)])];
    let one = Shape { details: Details::With, ..text_shape(&[]) };
    let lines = write(one.clone(), CSV, &rows);
    let lines: Vec<_> = lines.lines().skip(1).collect();
    assert_eq!(
        lines[0],
        format!(
            "yes,answered,openai/gpt-5-mini,main,2,batch,7,req_1,stop,120,5,1.0000425,2,,,\
             2025-10-09T08:53:20.123Z,r1:{}",
            "ab".repeat(32)
        )
    );
    assert_eq!(lines[1], ",pending,openai/gpt-5-mini,main,2,,,,,,,,0,,,,");
    let json: Value =
        serde_json::from_str(write(one, Format::Jsonl, &rows).lines().next().unwrap()).unwrap();
    assert_eq!(json["batch_id"], json!(7));
    assert_eq!(json["cost_usd"], json!(1.000_042_5));
    assert_eq!(json["error"], Value::Null);
}

#[test]
fn money_is_written_in_full() {
    let texts: Vec<String> = [0, 1, -5, 2_000_000_000, 1_500_000_000, i64::MAX]
        .map(|nanos| table::Usd(NanoUsd(nanos)).to_string())
        .into();
    assert_eq!(texts, ["0", "0.000000001", "-0.000000005", "2", "1.5", "9223372036.854775807"]);
}

#[test]
fn a_record_that_somebody_broke_is_an_error_that_names_the_row() {
    for format in [CSV, Format::Jsonl] {
        let layout = Layout::new(shape(&["a"], vec![prompt("p", object(&["x"]))]));
        let mut table = Table::start(Vec::new(), format, layout, Selection::default()).unwrap();
        let cells = table.row(&row(4, "[secret]", vec![answered("{}")])).unwrap_err();
        assert_eq!(cells.to_string(), "the cells of row #4 are no JSON object");
        let answer = table.row(&row(5, "{}", vec![answered("secret")])).unwrap_err();
        assert_eq!(answer.to_string(), "the answer to prompt p on row #5 is no JSON object");
    }
}

fn cells() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\"',\r\n; =\u{feff}\t]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..3)
                .prop_map(|pairs| pairs.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// What a cell reads in CSV, said a second time.
fn in_csv(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn records(text: &str) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

proptest! {
    #[test]
    fn csv_reads_back_as_the_same_cells(
        columns in prop::collection::hash_set(any::<String>(), 1..5),
        table in prop::collection::vec((prop::collection::vec(prop::option::of(cells()), 5), any::<String>()), 0..6),
    ) {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut expected = Vec::new();
        let mut rows = Vec::new();
        for (values, answer) in table {
            // Columns in reverse, so that order is not what finds them.
            let members: Map<String, Value> = columns.iter().zip(&values).rev()
                .filter_map(|(column, value)| Some(((*column).to_owned(), value.clone()?)))
                .collect();
            let mut line: Vec<String> =
                columns.iter().map(|column| in_csv(members.get(*column))).collect();
            line.extend([answer.clone(), "answered".to_owned()]);
            expected.push(line);
            rows.push(row(1, &Value::from(members).to_string(), vec![answered(&answer)]));
        }
        let mut read = records(&write(text_shape(&columns), CSV, &rows));
        prop_assert_eq!(&read.remove(0)[..columns.len()], &columns[..]);
        prop_assert_eq!(&read, &expected);
        // Safe for spreadsheets it says the same, behind an apostrophe here and there.
        let safe = records(&write(text_shape(&columns), SAFE, &rows));
        for (safe, plain) in safe[1..].iter().flatten().zip(read.iter().flatten()) {
            let starts = safe.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
            prop_assert!(!starts || safe.trim_end().parse::<f64>().is_ok(), "{safe:?}");
            prop_assert!(safe == plain || safe.strip_prefix('\'') == Some(plain), "{safe:?} {plain:?}");
        }
    }

    #[test]
    fn json_lines_read_back_as_the_same_values(
        members in prop::collection::vec(("[a-z]{0,3}", cells()), 0..5),
        answer in prop::collection::vec(("[a-z\"é]{1,3}", cells()), 1..4),
    ) {
        let members: Map<String, Value> = members.into_iter().collect();
        let answer: Map<String, Value> = answer.into_iter().collect();
        let fields: Vec<&str> = answer.keys().map(String::as_str).collect();
        let columns: Vec<&str> = members.keys().map(String::as_str).collect();
        let one = shape(&columns, vec![prompt("p", object(&fields))]);
        let rows = [row(1, &Value::from(members.clone()).to_string(), vec![answered(&Value::from(answer.clone()).to_string())])];
        let mut expected = members;
        for (field, value) in answer {
            expected.insert(format!("answer.{field}"), value);
        }
        expected.insert("state".into(), json!("answered"));
        let text = write(one, Format::Jsonl, &rows);
        prop_assert_eq!(text.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read, Value::from(expected));
    }
}
