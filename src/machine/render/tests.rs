use super::*;
use crate::domain::{
    AnswerFormat, Endpoint, MessageTemplate, ModelName, Structured, TokenLimitField,
};
use serde_json::json;

fn prompt(template: &str) -> PromptSpec {
    PromptSpec {
        source: template.to_owned(),
        messages: vec![MessageTemplate { role: Role::User, template: template.to_owned() }],
        model: ModelName { provider: "simulated".into(), model: "small".into() },
        endpoint: Endpoint::ChatCompletions,
        max_tokens: None,
        max_tokens_limit: None,
        token_limit_field: TokenLimitField::MaxTokens,
        answer: AnswerFormat::Text,
        structured: Structured::Schema,
        parameters: serde_json::Map::new(),
    }
}

fn compile(template: &str) -> Template {
    Template::compile(&prompt(template)).unwrap()
}

fn render(template: &str, cells: &str) -> String {
    compile(template).render(cells).unwrap().remove(0).text
}

fn fail(template: &str, cells: &str) -> String {
    compile(template).render(cells).unwrap_err().to_string()
}

fn names(template: &Template) -> Vec<&str> {
    template.columns().iter().map(String::as_str).collect()
}

#[test]
fn cells_come_out_as_they_are() {
    let cells = r#"{"s":"<a & 'b'>\n{{ x }}","n":null,"t":true,"o":{"b":[1, 2.50],"a":null},"l":["é","\""]}"#;
    assert_eq!(render("{{ s }}", cells), "<a & 'b'>\n{{ x }}");
    assert_eq!(render("[{{ n }}]", cells), "[]");
    assert_eq!(render("{{ t }}", cells), "true");
    assert_eq!(render("{{ o }}", cells), r#"{"b":[1,2.50],"a":null}"#);
    assert_eq!(render("{{ o.b }} {{ o['b'][1] }} {{ l[0] }}", cells), "[1,2.50] 2.5 é");
    assert_eq!(render("{{ l }}", cells), r#"["é","\""]"#);
    assert_eq!(render("{{ row }}", r#"{"z": 1.10, "a": "x"}"#), r#"{"z":1.10,"a":"x"}"#);
    assert_eq!(render("{{ o|tojson }}", cells), r#"{"b":[1,2.50],"a":null}"#);
    assert_eq!(render("{{ s|tojson }}", cells), r#""<a & 'b'>\n{{ x }}""#);
    assert_eq!(
        render("{{ o|tojson(indent=2) }}", cells),
        "{\n  \"b\": [\n    1,\n    2.50\n  ],\n  \"a\": null\n}"
    );
    assert_eq!(render("{{ [1, 'a', none, {'k': t}] }}", cells), r#"[1,"a",null,{"k":true}]"#);
}

#[test]
fn a_number_that_is_only_printed_keeps_its_digits() {
    for digits in
        ["12345678901234567890", "1.10", "1e-05", "-0", "1E400", "0.1234567890123456789012"]
    {
        let cells = format!(r#"{{"x": {digits}}}"#);
        assert_eq!(render("{{ x }}", &cells), digits);
        assert_eq!(render("{{ row.x }}{{ row['x'] }}", &cells), [digits, digits].concat());
    }
}

#[test]
fn a_number_that_is_computed_with_is_a_number() {
    let cells = r#"{"x": 1.10, "big": 12345678901234567890, "id": 7}"#;
    assert_eq!(render("{{ x * 2 }} {{ 'high' if x > 1 else 'low' }}", cells), "2.2 high");
    assert_eq!(render("{{ big + 1 }}", cells), "12345678901234567891");
    assert_eq!(render("{{ '%03d'|format(id) }} {{ x }}", cells), "007 1.10");
}

#[test]
fn text_is_never_silently_above_a_number() {
    let cells = r#"{"score":"2"}"#;
    assert_eq!(
        fail("{% if score > 3 %}high{% endif %}", cells),
        "`score` is text in this row; to compare it with a number write `score|float`"
    );
    assert_eq!(render("{{ 'high' if score|float > 3 else 'low' }}", cells), "low");
    assert_eq!(render("{{ 'high' if score > 3 else 'low' }}", r#"{"score":2.0}"#), "low");
}

#[test]
fn white_space_is_kept() {
    assert_eq!(render(" a\n{{ x }}\n\n", r#"{"x":"\n b \n"}"#), " a\n\n b \n\n\n");
    assert_eq!(render("{% if true %}\n  a\n{% endif %}\n", "{}"), "\n  a\n\n");
}

#[test]
fn the_row_is_always_the_row() {
    let cells = r#"{"row":"mine","two words":"2","a":"1"}"#;
    assert_eq!(render("{{ row.row }} {{ row['two words'] }} {{ row.a }}", cells), "mine 2 1");
    assert_eq!(render("{% for k in row %}{{ k }};{% endfor %}", cells), "row;two words;a;");
    let items = "{% for k, v in row|items %}{{ k }}={{ v }};{% endfor %}";
    assert_eq!(render(items, cells), "row=mine;two words=2;a=1;");
}

#[test]
fn of_doubled_keys_the_last_counts() {
    assert_eq!(render("{{ a }}{{ row }}", r#"{"a":1,"b":2,"a":3}"#), r#"3{"a":3,"b":2}"#);
}

#[test]
fn columns_are_the_names_that_the_template_does_not_define() {
    let template = compile(
        "{{ a }}{{ row['two words'] }}{{ row.b.c }}{% for x in items %}{{ x }}{{ loop.index }}\
         {% endfor %}{% set y = d %}{{ y }}{% for i in range(3) %}{% endfor %}{{ dict(k=1) }}\
         {% raw %}{{ no }}{% endraw %}{# {{ no }} #}",
    );
    assert_eq!(names(&template), ["a", "b", "d", "items", "two words"]);
    let branches =
        "{% if a %}{% set x = b %}{% else %}{% set x, y = c, 1 %}{% endif %}{{ x }}{{ y }}";
    assert_eq!(names(&compile(branches)), ["a", "b", "c"]);
    let captured = "{% if a %}{% set x | upper %}b{% endset %}{% endif %}{{ x }}";
    assert_eq!(names(&compile(captured)), ["a"]);
    assert_eq!(names(&compile("{% set row = {'k': 1} %}{{ row.k }}")), Vec::<&str>::new());
}

#[test]
fn unknown_columns_are_refused_with_the_columns_there_are() {
    let columns = ["text", "two words", "id"].map(str::to_owned);
    let check = |template: &str| {
        compile(template).check_columns(&columns).map_err(|error| error.to_string())
    };
    assert_eq!(check("{{ text }}{{ row['two words'] }}{{ row|tojson }}"), Ok(()));
    assert_eq!(
        check("{{ txt }} {{ row['two word'] }}").unwrap_err(),
        "the table has no column `two word` (did you mean `row['two words']`?) \
         or `txt` (did you mean `text`?); its columns are text, row['two words'], id"
    );
    assert_eq!(
        check("{{ banana }}").unwrap_err(),
        "the table has no column `banana`; \
         its columns are text, row['two words'], id"
    );
}

#[test]
fn a_guarded_column_may_be_missing() {
    let template = compile(
        "{% if note is defined %}{{ note }}{% endif %}{{ tag|default('-') }}{{ row['x y']|d('+') }}",
    );
    assert_eq!(template.check_columns(&[]), Ok(()));
    assert_eq!(names(&template), ["note", "tag", "x y"]);
    assert_eq!(template.render("{}").unwrap()[0].text, "-+");
    assert_eq!(template.render(r#"{"note":"n","tag":"t"}"#).unwrap()[0].text, "nt+");
}

#[test]
fn what_is_undefined_is_named() {
    assert_eq!(
        fail("a\n{{ text }}", "{}"),
        "line 2 of the prompt: `text` is undefined in this row"
    );
    assert_eq!(
        fail("{{ row['two words'] }}", "{}"),
        "line 1 of the prompt: `row['two words']` is undefined in this row"
    );
    assert_eq!(
        fail("{{ a.b }}", r#"{"a":{}}"#),
        "line 1 of the prompt: `a.b` is undefined in this row"
    );
    assert_eq!(
        fail("{% if x %}{% endif %}", "{}"),
        "line 1 of the prompt: `x` is undefined in this row"
    );
}

#[test]
fn a_column_may_have_a_name_in_any_script() {
    let template = Template::compile(&prompt("{{ 본문 }} / {{ Größe|upper }}")).unwrap();
    let columns: Vec<&str> = template.columns().iter().map(String::as_str).collect();
    assert_eq!(columns, ["Größe", "본문"]);
    let messages = template.render(r#"{"본문":"좋아요","Größe":"xl"}"#).unwrap();
    assert_eq!(messages[0].text, "좋아요 / XL");
}

#[test]
fn syntax_is_judged_at_once_and_by_the_line_of_the_file() {
    let error = |template: &str| Template::compile(&prompt(template)).unwrap_err().to_string();
    assert_eq!(error("one\n{{ text }"), "line 2 of the prompt: unexpected `}`, expected `}}`");
    assert_eq!(error("{{ a|nope }}"), "line 1 of the prompt: there is no filter `nope`");
    assert_eq!(
        error("\n{{ a is odd }}{{ a is nope }}"),
        "line 2 of the prompt: there is no test `nope`"
    );
    for gone in ["{% include 'x' %}", "{% import 'x' as x %}", "{% extends 'x' %}"] {
        assert!(error(gone).contains("unknown statement"), "{gone}");
    }
}

#[test]
fn lines_count_from_the_top_of_the_prompt_file() {
    let mut prompt = prompt("x");
    prompt.source =
        "---\r\nmodel: m\r\n# good {{\r\n---\r\nsystem:\r\ngood\r\n\r\nuser:\r\n{{ a\r\n".into();
    prompt.messages = vec![
        MessageTemplate { role: Role::System, template: "good".into() },
        MessageTemplate { role: Role::User, template: "{{ a".into() },
    ];
    let error = Template::compile(&prompt).unwrap_err().to_string();
    assert!(error.starts_with("line 9 of the prompt: "), "{error}");
    prompt.source = "elsewhere".into();
    let error = Template::compile(&prompt).unwrap_err().to_string();
    assert!(error.starts_with("line 1 of message 2: "), "{error}");
}

#[test]
fn no_error_holds_a_cell() {
    let cells = r#"{"s":"SECRET","o":{"SECRET":"SECRET"},"k":"SECRET"}"#;
    for template in [
        "{{ s + 1 }}",
        "{{ s|int }}",
        "{{ s|round }}",
        "{{ s|float }}",
        "{{ o[k].x.y }}",
        "{{ row[s].x }}",
        "{{ s.SECRE() }}",
        "{{ 1 / (s|length - 6) }}",
        "{{ s|map(s)|list }}",
        "{% for a, b in [s] %}{% endfor %}",
        "{{ s() }}",
        "{{ '%d'|format(s) }}",
        "{{ {o: 1} }}",
        "{{ range(s) }}",
        "{{ s|select(s)|list }}",
        "{{ dict(s) }}",
        "{{ s * 100000000 }}",
        "{{ s|tojson(indent=s) }}",
        "{{ s|batch(s) }}",
        "{{ s ~ s // s }}",
        "{{ -s }}",
    ] {
        if let Err(error) = compile(template).render(cells) {
            let told = format!("{error} {error:?}");
            assert!(!told.contains("SECRET"), "{template}: {told}");
        }
    }
    assert_eq!(
        fail("{{ s + 1 }}", cells),
        "line 1 of the prompt: tried to use + operator on unsupported types string and number in `s + 1`"
    );
    for cells in ["", "[]", "\"SECRET\"", "{\"SECRET\"", "{\"a\":SECRET}", "{\"a\":\"\\ud800\"}"] {
        assert_eq!(compile("x{{ a }}").render(cells), Err(RenderError::BadCells), "{cells}");
    }
}

#[test]
fn work_output_and_depth_are_bounded() {
    let loops = "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}";
    assert_eq!(compile(loops).render("{}"), Err(RenderError::TooMuchWork));
    let silent = "{% for x in range(99999) %}{% set y = row|tojson %}{% endfor %}";
    let cells = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(50_000));
    assert_eq!(compile(silent).render(&cells), Err(RenderError::TooMuchWork));
    let rows = "{{ ([row] * 100000)|tojson|length }}";
    assert_eq!(compile(rows).render(&cells), Err(RenderError::TooMuchWork));
    let long = "{% for x in range(70) %}{{ a }}{% endfor %}";
    let cells = format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(compile(long).render(&cells), Err(RenderError::TooLong { limit_bytes: 64 << 20 }));
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(compile("{{ a|tojson }}{{ a|pprint }}").render(&deep(120)).map(|_| ()), Ok(()));
    for depth in [129, 100_000] {
        let error = compile("{{ a }}").render(&deep(depth)).unwrap_err();
        assert!(matches!(error, RenderError::TooDeep { .. } | RenderError::BadCells), "{error}");
    }
}

#[test]
fn a_cell_of_fifty_megabytes_passes_through() {
    let cells = format!(r#"{{"a":"{}"}}"#, "x".repeat(50 << 20));
    assert_eq!(render("{{ a|trim }}", &cells).len(), 50 << 20);
}

#[test]
fn nothing_nests_without_bound() {
    let error = fail("{% set ns = namespace(x=[]) %}", "{}");
    assert!(error.contains("namespace"), "{error}");
    let endless = "{% for x in [1] recursive %}{{ loop([[x]]) }}{% endfor %}";
    assert!(fail(endless, "{}").contains("line 1"), "{}", fail(endless, "{}"));
    let nested = format!("{{{{ {}1{} }}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(Template::compile(&prompt(&nested)).is_err());
    let blocks = "{% if true %}".repeat(5000) + &"{% endif %}".repeat(5000);
    assert!(Template::compile(&prompt(&blocks)).is_err());
    let literal = format!("{{{{ {}1{} }}}}", "[".repeat(140), "]".repeat(140));
    if let Ok(template) = Template::compile(&prompt(&literal)) {
        assert!(template.render("{}").is_err());
    }
}

#[test]
fn a_blank_user_message_is_noticed_and_kept() {
    let template = compile(" {{ a }}\n");
    let messages = template.render(r#"{"a":"\t"}"#).unwrap();
    assert_eq!(messages[0].text, " \t\n");
    assert!(is_blank(&messages));
    assert!(!is_blank(&template.render(r#"{"a":"x"}"#).unwrap()));
}

#[test]
fn one_template_serves_all_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&compile("x"));
}

#[test]
fn equal_rows_render_equal() {
    let template = compile("{{ {'b': 1, 'a': [x]} }}{{ row }}{{ row|dictsort }}");
    let cells = json!({"x": 1, "c": "z", "b": [true, null], "a": {"k": 0.5}}).to_string();
    let first = template.render(&cells).unwrap();
    for _ in 0..20 {
        assert_eq!(
            compile("{{ {'b': 1, 'a': [x]} }}{{ row }}{{ row|dictsort }}").render(&cells).unwrap(),
            first
        );
    }
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rendering_never_panics(
            template in "([a-z \n{}%#'\"|.()\\[\\]0-9-]|\\{\\{ |\\}\\}|\\{% | %\\}|for x in a|if|endif|endfor|row|default|é){0,40}",
            cells in "(\\{\"a\":[\\[\\]{}\",:0-9a]{0,20}\\}|.{0,20})",
        ) {
            if let Ok(template) = Template::compile(&prompt(&template)) {
                let _ = template.check_columns(&["a".to_owned()]);
                let _ = template.render(&cells);
                let _ = template.render(r#"{"a":[1,"x",null]}"#);
            }
        }

        #[test]
        fn text_comes_out_verbatim(text in "\\PC*|[\\s\\S]*") {
            let cells = serde_json::json!({ "a": text }).to_string();
            prop_assert_eq!(render("{{ a }}", &cells), text);
        }
    }
}
