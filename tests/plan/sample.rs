//! How many requests are looked at, and whether a sample says what all of them say.

use serde_json::json;

use super::{lines, near, number, of_prompt, plan, project};

/// Rows that get longer from the first to the last, which is what a look at the first rows would miss.
fn growing(rows: usize) -> String {
    let mut text = String::from("id,text\n");
    for row in 1..=rows {
        let words = if row % 3 == 0 { "조금 긴 리뷰 " } else { "some more words " };
        text.push_str(&format!("r{row},{row} {}\n", words.repeat(1 + row * 20 / rows)));
    }
    text
}

const PROMPT: &str = "---\nmodel: gpt-4o-mini\nmax_tokens: 50\n---\nJudge this: {{ text }}";

#[test]
fn a_small_table_is_counted_whole_and_exact_says_the_same() {
    let folder = project(&growing(700), PROMPT, &[]);
    let (some, all) = (plan(&folder, &[]), plan(&folder, &["--exact"]));
    assert_eq!(some, all);
    let counted = json!({"requests": 700, "of": 700, "is_sample": false, "same": 0});
    assert_eq!(some["prompts"][0]["counted"], counted);
    assert_eq!(some["prompts"][0]["tokens"]["input_basis"], "exact");
    assert_eq!(some["prompts"][0]["longest"]["key"], "r700");
}

#[test]
fn a_large_table_is_sampled_all_over_and_says_so() {
    let folder = project(&growing(9_000), PROMPT, &[]);
    let (some, all) = (of_prompt(&folder, &[]), of_prompt(&folder, &["--exact"]));
    let counted = |requests: u64, is_sample: bool| json!({"requests": requests, "of": 9_000, "is_sample": is_sample, "same": 0});
    assert_eq!(some["counted"], counted(2_000, true));
    assert_eq!(all["counted"], counted(9_000, false));
    near(number(&some["tokens"]["input"]), number(&all["tokens"]["input"]), 0.01);
    near(number(&some["cost_usd"]), number(&all["cost_usd"]), 0.01);
    near(
        number(&some["batch_sizes"]["each"]["tokens"]),
        number(&all["batch_sizes"]["each"]["tokens"]),
        0.01,
    );
    assert_eq!(some, of_prompt(&folder, &[]), "the same sample each time");
    let page = folder.ok(&["plan", "--examples", "0"]).stdout;
    assert!(page.contains("  counted   from a sample of 2,000 of 9,000 requests; `overnight plan --exact` counts all\n"), "{page}");
    let page = folder.ok(&["plan", "--examples", "0", "--exact"]).stdout;
    assert!(!page.contains("from a sample"), "{page}");
}

#[test]
fn what_is_due_again_counts_with_its_own_number() {
    let folder = project(
        &growing(300),
        "---\nmodel: simulated/small\nmax_tokens: 4\nmax_tokens_limit: 4\n---\n{{ text }}",
        &[],
    );
    folder.run(&["run", "--limit", "100"]).ends(3);
    folder.ok(&["retry", "--truncated", "--max-tokens", "40"]);
    let prompt = of_prompt(&folder, &[]);
    assert_eq!(prompt["due"], 300);
    assert_eq!(
        prompt["counted"],
        json!({"requests": 300, "of": 300, "is_sample": false, "same": 0})
    );
    assert_eq!(prompt["tokens"]["output_at_most"], 100 * 40 + 200 * 4);
    assert_eq!(prompt, of_prompt(&folder, &["--exact"]));
}

#[test]
fn equal_requests_are_bought_once() {
    let rows = lines((1..=900).map(|row| format!("r{row},text {}\n", row % 300)));
    let folder = project(
        &format!("id,text\n{rows}"),
        "---\nmodel: simulated/small\nmax_tokens: 60\n---\n{{ text }}",
        &[],
    );
    let prompt = of_prompt(&folder, &["--route", "realtime"]);
    assert_eq!(prompt["counted"]["same"], 600);
    assert_eq!(prompt, of_prompt(&folder, &["--route", "realtime", "--exact"]));
    folder.ok(&["run", "--route", "realtime"]);
    let tokens = &folder.status()["tokens"];
    assert_eq!(prompt["tokens"]["input"], tokens["input"]);
    let page = folder.ok(&["plan"]).stdout;
    assert!(page.contains("due       nothing"), "{page}");
}

#[test]
fn a_limit_takes_its_part() {
    let folder = project(&growing(400), PROMPT, &[]);
    let (all, some) = (of_prompt(&folder, &[]), of_prompt(&folder, &["--limit", "100"]));
    near(number(&some["cost_usd"]), number(&all["cost_usd"]) / 4.0, 0.001);
    assert_eq!(some["tokens"]["output_at_most"], 5_000);
}
