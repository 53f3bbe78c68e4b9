//! What a person is told to look at before a run.

use serde_json::Value;

use super::support::{Act, Provider};
use super::{lines, number, of_prompt, project};

fn warning(prompt: &Value, kind: &str) -> Option<Value> {
    let all = prompt["warnings"].as_array().unwrap();
    all.iter().find(|warning| warning["kind"] == kind).cloned()
}

#[track_caller]
fn warns(prompt: &Value, kind: &str) -> (Value, String) {
    let found = warning(prompt, kind).unwrap_or_else(|| panic!("{kind}: {:#}", prompt["warnings"]));
    let words = found["message"].as_str().unwrap().to_owned();
    (found, words)
}

const PLAIN: &str = "---\nmodel: simulated/small\nmax_tokens: 50\n---\n";

#[test]
fn rows_that_say_nothing_are_told_with_the_first_of_them() {
    let table = "id,title,text\n1,a,b\n2,,\n3,x,\n4,,\n5, ,\n";
    let folder =
        project(table, &format!("{PLAIN}Title: {{{{ title }}}}\nText: {{{{ text }}}}"), &[]);
    let (empty, words) = warns(&of_prompt(&folder, &[]), "empty");
    assert_eq!((&empty["rows"], &empty["first_row"]), (&2.into(), &2.into()));
    assert!(
        words.starts_with("2 of 5 rows render as if the row were empty, the first is row #2:"),
        "{words}"
    );
    // A message of blanks alone says as little.
    let folder = project(table, &format!("{PLAIN}{{{{ title }}}}"), &[]);
    let (empty, _) = warns(&of_prompt(&folder, &[]), "empty");
    assert_eq!(empty["rows"], 3);
    let folder = project("id,text\n1,a\n2,b\n", &format!("{PLAIN}{{{{ text }}}}"), &[]);
    assert_eq!(of_prompt(&folder, &[])["warnings"], Value::Array(Vec::new()));
}

#[test]
fn rows_that_cannot_be_rendered_are_told_and_cost_nothing() {
    let table = "{\"id\": 1, \"n\": 4}\n{\"id\": 2, \"n\": 0}\n{\"id\": 3, \"n\": 2}\n";
    let folder = project(
        "id,text\n0,x\n",
        &format!("{PLAIN}{{{{ row.n is defined and (8 / row.n) }}}}"),
        &[],
    );
    folder.write("more.jsonl", table).ok(&["add", "more.jsonl", "--key", "id"]);
    let prompt = of_prompt(&folder, &[]);
    let (failed, words) = warns(&prompt, "unrenderable");
    assert_eq!((&failed["rows"], &failed["first_row"]), (&1.into(), &3.into()), "{words}");
    assert!(
        words
            .contains("1 of 4 rows cannot be rendered and will not be sent, the first is row #3: "),
        "{words}"
    );
    assert_eq!(prompt["tokens"]["output_at_most"], 150);
}

#[test]
fn a_long_text_that_does_not_come_first_is_told_with_what_it_gives_away() {
    let rules = "Answer with care, and never more than is asked for. ".repeat(120);
    let rows = lines((1..=40).map(|row| format!("r{row},review number {row}\n")));
    let table = format!("id,text\n{rows}");
    let late = project(&table, &format!("{PLAIN}{{{{ text }}}}\n\n{rules}"), &[]);
    let (found, words) = warns(&of_prompt(&late, &[]), "not_cached");
    let tokens = number(&found["tokens"]);
    assert!((1_100.0..1_700.0).contains(&tokens), "{tokens}");
    // 0.10 USD for a million tokens, 0.01 where they are cached; the first request finds nothing there.
    let saves = tokens * 39.0 * 0.09 / 1e6;
    assert!((number(&found["saves_usd"]) - saves).abs() < 1e-8, "{saves} {found}");
    assert!(words.contains("do not come first, where the provider could cache them"), "{words}");
    for prompt in [
        // First in its own message, or in the same one.
        format!("{PLAIN}system:\n{rules}\n\nuser:\n{{{{ text }}}}"),
        format!("{PLAIN}{rules}\n\n{{{{ text }}}}"),
        // Too short to be cached anywhere.
        format!("{PLAIN}{{{{ text }}}}\n\n{}", &rules[..2_000]),
    ] {
        let folder = project(&table, &prompt, &[]);
        assert_eq!(warning(&of_prompt(&folder, &[]), "not_cached"), None, "{prompt:.80}");
    }
    let between = format!("{PLAIN}{{{{ text }}}}\n\n{rules}\n\nAgain: {{{{ text }}}}");
    warns(&of_prompt(&project(&table, &between, &[]), &[]), "not_cached");
}

#[test]
fn no_limit_and_no_price_are_told() {
    let table = "id,text\n1,a\n";
    let folder = project(table, "---\nmodel: openai/of-nobody\n---\n{{ text }}", &[]);
    let prompt = of_prompt(&folder, &[]);
    let (_, words) = warns(&prompt, "no_price");
    assert!(words.starts_with("no price is known for openai/of-nobody"), "{words}");
    let (_, words) = warns(&prompt, "no_max_tokens");
    assert!(words.contains("no ceiling"), "{words}");
    assert_eq!(
        (&prompt["cost_usd"], &prompt["tokens"]["input_basis"]),
        (&Value::Null, &"estimate".into())
    );
}

#[test]
fn what_went_wrong_so_far_is_told() {
    let provider = Provider::start(|request| {
        let row: u32 = request.text().parse().unwrap();
        match row % 10 {
            0..=2 => Act::finishes("cut", "length"),
            3 => Act::finishes("", "content_filter"),
            _ => Act::says("fine"),
        }
    });
    let rows = lines((1..=60).map(|row| format!("r{row},{row}\n")));
    let prompt = "---\nmodel: openai/mine\nmax_tokens: 10\n---\n{{ text }}";
    let base_url = provider.base_url();
    let mut folder = project(&format!("id,text\n{rows}"), prompt, &["--base-url", &base_url]);
    folder.env("OPENAI_API_KEY", "sk-test");
    folder.run(&["run", "--limit", "50"]).ends(3);
    let prompt = of_prompt(&folder, &[]);
    let (cut, words) = warns(&prompt, "truncated");
    assert_eq!((&cut["requests"], &cut["of"]), (&15.into(), &50.into()));
    assert!(
        words.starts_with("max_tokens 10 cut off the replies to 30% of the requests so far"),
        "{words}"
    );
    let (declined, words) = warns(&prompt, "refused");
    assert_eq!(declined["requests"], 5);
    assert!(words.starts_with("the model declined 10% of the requests so far"), "{words}");
    // The server counts 100 tokens for every try, whatever ours come to; 80 tries were billed for 50 requests.
    assert_eq!(prompt["tokens"]["input"], 1_600);
    assert_eq!(prompt["tokens"]["input_basis"], "calibrated");
}

#[test]
fn a_request_that_the_model_does_not_take_is_told_with_its_row() {
    let long = "word ".repeat(300);
    let table = format!("id,text\n1,short\n2,{long}\n3,{long}{long}\n4,short too\n");
    let folder = project(&table, &format!("{PLAIN}{{{{ text }}}}"), &[]);
    let prices = "provider,model,input_usd_per_mtok,output_usd_per_mtok,max_input_tokens\nsimulated,small,0.1,0.5,250\n";
    folder.write("prices.csv", prices);
    let prompt = of_prompt(&folder, &["--prices", "prices.csv"]);
    let (found, words) = warns(&prompt, "too_long");
    assert_eq!((&found["rows"], &found["first_row"]), (&2.into(), &3.into()), "{words}");
    assert!(words.starts_with("2 of 4 rows have more input than the 250 tokens that simulated/small takes; the longest is row #3 with 6"), "{words}");
    assert_eq!(prompt["longest"]["max_input_tokens"], 250);
    let page = folder.ok(&["plan", "--prices", "prices.csv", "--examples", "0"]).stdout;
    assert!(page.contains("  longest   row #3 (3), 6"), "{page}");
}
