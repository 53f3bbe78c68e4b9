use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn choices(labels: &[&str]) -> AnswerCheck {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    AnswerCheck::compile(&AnswerFormat::Choices(labels)).unwrap()
}

fn schema(schema: Value) -> AnswerCheck {
    AnswerCheck::compile(&AnswerFormat::Schema(schema)).unwrap()
}

fn refused(schema: Value) -> String {
    AnswerCheck::compile(&AnswerFormat::Schema(schema)).unwrap_err().to_string()
}

#[test]
fn text_is_accepted_unchanged_unless_blank() {
    let check = AnswerCheck::compile(&AnswerFormat::Text).unwrap();
    assert_eq!(check.check(" a\n"), Ok(" a\n".to_owned()));
    for blank in ["", " \n\t", "\u{a0}"] {
        assert_eq!(check.check(blank), Err("the answer is empty".to_owned()));
    }
}

#[test]
fn one_check_serves_all_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&choices(&["a", "b"]));
    shared(&schema(json!({"type": "object"})));
}

#[test]
fn a_label_is_found_in_whatever_it_is_wrapped() {
    let check = choices(&["positive", "negative", "Not sure."]);
    for reply in [
        r#"{"answer":"positive"}"#,
        "{ \"answer\" : \"positive\" }\n",
        "```json\n{\"answer\": \"positive\"}\n```",
        "```json {\"answer\": \"positive\"}```",
        "positive",
        " Positive.\n",
        "**POSITIVE**",
        "\"positive\"",
        "`positive`.",
        "“positive”",
        "'**Positive**.'",
        "```\npositive\n```",
        "```positive```",
        r#"{"reason":"…","answer":"Positive."}"#,
    ] {
        assert_eq!(check.check(reply).as_deref(), Ok("positive"), "{reply}");
    }
    for reply in ["not sure", "not sure.", "\"Not sure.\"", "**Not Sure**."] {
        assert_eq!(check.check(reply).as_deref(), Ok("Not sure."), "{reply}");
    }
}

#[test]
fn what_is_no_label_is_refused_without_being_told() {
    let check = choices(&["positive", "negative"]);
    for reply in [
        "",
        " ",
        "SECRET",
        "positive negative",
        r#"{"answer":"SECRET"}"#,
        r#"{"label":"positive"}"#,
        "[\"positive\"]",
        "null",
        "{\"answer\":null}",
        "posit",
        "```",
        "\"",
        "….",
    ] {
        assert_eq!(
            check.check(reply),
            Err("the answer is none of the choices".to_owned()),
            "{reply}"
        );
    }
}

#[test]
fn letter_case_decides_only_where_it_must() {
    let check = choices(&["A", "a", "Ärger"]);
    assert_eq!(check.check("A").as_deref(), Ok("A"));
    assert_eq!(check.check("\"a\"").as_deref(), Ok("a"));
    assert_eq!(check.check("ärger").as_deref(), Ok("Ärger"));
    let check = choices(&["Yes", "yes!", "YES"]);
    assert!(check.check("yes").is_err());
}

#[test]
fn labels_that_look_like_other_things_are_labels() {
    let check = choices(&["1", "2.0", "true", "no.", "\"q\""]);
    for (reply, label) in [
        ("1", "1"),
        ("{\"answer\":1}", "1"),
        ("1.", "1"),
        ("2.0", "2.0"),
        ("true", "true"),
        ("True", "true"),
        ("{\"answer\":true}", "true"),
        ("no.", "no."),
        ("\"q\"", "\"q\""),
        ("{\"answer\":\"\\\"q\\\"\"}", "\"q\""),
    ] {
        assert_eq!(check.check(reply).as_deref(), Ok(label), "{reply}");
    }
}

#[test]
fn valid_json_is_kept_as_replied_but_compact() {
    let check = schema(json!({"type": "object", "required": ["n"]}));
    let reply = "```json\n{ \"z\": \"a b\\n \\\" c\\\\\",\r\n\t\"n\": 1.10, \"a\": [1e2, \"\u{e9}\"] }\n```";
    assert_eq!(
        check.check(reply).as_deref(),
        Ok("{\"z\":\"a b\\n \\\" c\\\\\",\"n\":1.10,\"a\":[1e2,\"\u{e9}\"]}")
    );
}

#[test]
fn an_invalid_answer_is_told_by_path_and_keyword_only() {
    let check = schema(json!({
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"enum": ["x"]}}, "b": {"type": "integer"}},
        "patternProperties": {"^S": {"type": "integer"}},
        "required": ["b"],
    }));
    let err = |reply: &str| check.check(reply).unwrap_err();
    assert_eq!(
        err(r#"{"b":1,"a":["x","SECRET"]}"#),
        "the answer does not meet the schema at /a/1: enum"
    );
    assert_eq!(err(r#"{"b":"SECRET"}"#), "the answer does not meet the schema at /b: type");
    assert_eq!(err("{}"), "the answer does not meet the schema: required");
    assert_eq!(err(r#"{"b":1,"SECRET":"x"}"#), "the answer does not meet the schema at /*: type");
    assert_eq!(err("[]"), "the answer does not meet the schema: type");
    assert_eq!(err("SECRET"), "the answer is not valid JSON");
    assert_eq!(err("{\"b\":1} SECRET"), "the answer is not valid JSON");
    assert_eq!(err("``` ```"), "the answer is empty");
}

#[test]
fn hostile_patterns_and_depths_end_soon() {
    let check = schema(json!({
        "type": "object",
        "properties": {"a": {"pattern": r"^(?=(a+)+$)(\w+\s?)*\1$"}, "b": {"pattern": "^(a+)+$"}},
    }));
    let start = time();
    let long = format!("{}!", "a".repeat(5000));
    assert!(check.check(&json!({"a": long}).to_string()).is_err());
    assert!(check.check(&json!({"b": long}).to_string()).is_err());
    assert!(start() < Duration::from_secs(10));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(check.check(&deep), Err("the answer is not valid JSON".to_owned()));
    assert!(choices(&["x"]).check(&deep).is_err());
}

#[expect(clippy::disallowed_methods, reason = "the test bounds the time that a pattern may take")]
fn time() -> impl Fn() -> Duration {
    let start = Instant::now();
    move || start.elapsed()
}

#[test]
fn a_schema_must_be_valid_closed_in_itself_and_an_object() {
    assert_eq!(refused(json!({"type": "array"})), "the schema must have `type: object` at its top");
    assert_eq!(refused(json!(true)), "the schema must have `type: object` at its top");
    let error = refused(json!({"type": "object", "properties": {"a": {"type": "strin"}}}));
    assert!(error.starts_with("the schema is not valid at /properties/a/type: "), "{error}");
    for elsewhere in ["http://example.com/s.json", "file:///etc/passwd", "other.json", "#/$defs/no"]
    {
        let error = refused(json!({"type": "object", "properties": {"a": {"$ref": elsewhere}}}));
        assert!(error.starts_with("the schema is not valid"), "{error}");
    }
    let error = refused(json!({"type": "object", "properties": {"a": {"pattern": "("}}}));
    assert!(error.contains("/properties/a/pattern"), "{error}");
}

#[test]
fn a_schema_may_refer_to_itself() {
    let check = schema(json!({
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }));
    assert!(check.check(r#"{"next":{"next":null}}"#).is_ok());
    assert!(check.check(r#"{"next":{"next":1}}"#).is_err());
    let looped = schema(json!({"type": "object", "$ref": "#"}));
    assert!(looped.check("{}").is_ok());
}

#[test]
fn choices_go_out_as_a_schema_with_one_enum() {
    let format = AnswerFormat::Choices(vec!["a".into(), "b".into()]);
    assert_eq!(
        wire_schema(&format).unwrap().to_string(),
        r#"{"type":"object","properties":{"answer":{"type":"string","enum":["a","b"]}},"required":["answer"],"additionalProperties":false}"#
    );
    assert!(strict_ready(&wire_schema(&format).unwrap()));
    assert_eq!(wire_schema(&AnswerFormat::Text), None);
    let own = json!({"type": "object"});
    assert_eq!(wire_schema(&AnswerFormat::Schema(own.clone())), Some(own));
}

#[test]
fn words_name_every_label() {
    let labels = |labels: &[&str]| {
        words(&AnswerFormat::Choices(labels.iter().map(|&l| l.to_owned()).collect())).unwrap()
    };
    assert_eq!(labels(&["a", "b c"]), "Answer with exactly one of these and nothing else: a, b c");
    assert_eq!(
        labels(&["a, b", "c"]),
        r#"Answer with exactly one of these and nothing else: "a, b", "c""#
    );
    assert_eq!(words(&AnswerFormat::Text), None);
    assert_eq!(
        words(&AnswerFormat::Schema(json!({"type": "object"}))).unwrap(),
        r#"Answer with one JSON object that is valid under this JSON Schema and nothing else: {"type":"object"}"#
    );
}

fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    })
}

#[test]
fn strict_takes_closed_objects_of_supported_parts() {
    for ready in [
        object(json!({})),
        object(json!({"a": {"type": "string", "description": "d", "pattern": "^a+$"}})),
        object(json!({"a": {"type": ["string", "null"], "enum": ["x", null]}})),
        object(
            json!({"a": {"type": "array", "minItems": 1, "items": object(json!({"b": {"type": "number", "minimum": 0}}))}}),
        ),
        object(json!({"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}})),
        object(json!({"a": {"type": "string", "format": "date"}})),
    ] {
        assert!(strict_ready(&ready), "{ready}");
    }
}

#[test]
fn strict_is_not_asked_for_what_it_would_refuse() {
    let mut open = object(json!({"a": {"type": "string"}}));
    open.as_object_mut().unwrap().remove("additionalProperties");
    let mut optional = object(json!({"a": {"type": "string"}}));
    optional["required"] = json!([]);
    let mut branching = object(json!({"a": {"type": "string"}}));
    branching["anyOf"] = json!([{"type": "object"}]);
    let mut deep = json!({"type": "string"});
    for _ in 0..11 {
        deep = object(json!({"a": deep}));
    }
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    for refused in [
        json!(true),
        json!({"type": "string"}),
        json!({"type": "object"}),
        open.clone(),
        optional,
        branching,
        deep,
        object(json!({"a": open})),
        object(json!({"a": {}})),
        object(json!({"a": true})),
        object(json!({"a": {"type": "string", "minLength": 1}})),
        object(json!({"a": {"type": "string", "default": "x"}})),
        object(json!({"a": {"type": "string", "format": "uri"}})),
        object(json!({"a": {"type": "string", "pattern": "(?=x)"}})),
        object(json!({"a": {"oneOf": [{"type": "string"}]}})),
        object(json!({"a": {"allOf": [{"type": "string"}]}})),
        object(json!({"a": {"type": "array"}})),
        object(json!({"a": {"$ref": "#", "description": "d"}})),
        object(json!({"a": {"type": "string", "enum": many}})),
    ] {
        assert!(!strict_ready(&refused), "{refused}");
    }
}

mod arbitrary {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_label_comes_back_from_its_own_schema(labels in btree_set("\\PC{1,12}", 2..8)) {
            let labels: Vec<String> = labels.into_iter().filter(|l| !l.trim().is_empty()).collect();
            let format = AnswerFormat::Choices(labels.clone());
            let check = AnswerCheck::compile(&format).unwrap();
            let schema = wire_schema(&format).unwrap();
            for label in labels {
                let reply = json!({"answer": label});
                prop_assert!(jsonschema::is_valid(&schema, &reply));
                prop_assert_eq!(check.check(&reply.to_string()), Ok(label));
            }
        }

        #[test]
        fn no_reply_makes_the_check_panic(reply in "(\\PC|[`\"*. \n{}:]|json|answer){0,40}") {
            let check = choices(&["a", "b"]);
            prop_assert!(check.check(&reply).is_ok_and(|label| label == "a" || label == "b")
                || check.check(&reply).is_err());
            let _ = schema(json!({"type": "object"})).check(&reply);
        }

        #[test]
        fn compacting_changes_no_value(reply in "\\PC*", number in -1e9..1e9_f64) {
            let value = json!({"k e y": reply, "n": [number, {}]});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), value.to_string());
        }
    }
}
