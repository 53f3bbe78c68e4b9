//! By which way requests go, and that whichever it is they are paid for once.

use std::collections::BTreeSet;

use crate::shop::{Shop, texts};
use crate::support::batches::runs::{Running, exported};

/// Calls that were charged, and lines of batches.
fn calls_and_lines(shop: &Shop) -> (u64, u64) {
    let lines = shop.total("batch_charged_requests");
    (shop.total("charged_requests") - lines, lines)
}

/// A project of 24 wordy rows at a provider whose queue takes about half of them.
fn narrow(more: &[&str]) -> Shop {
    let args = [&["--enqueued-tokens", "1500"], more].concat();
    Shop::open(&texts(24, 100), &args, &["--prompt", "Say: {{ text }}"])
}

#[test]
fn what_the_queue_does_not_take_goes_by_calls_while_batches_are_under_way() {
    let shop = narrow(&["--batch-delay", "1s"]);
    shop.run(&["--batch-size", "6"]).ends(0);
    let (calls, lines) = calls_and_lines(&shop);
    assert!(calls >= 6 && lines >= 12, "{calls} calls, {lines} lines");
    let side_by_side = "SELECT count(*) FROM attempt WHERE route = 'realtime'
                        AND settled_at_ms < (SELECT min(collected_at_ms) FROM batch WHERE ended = 'completed')";
    assert!(shop.number(side_by_side) > 0, "no call was made while a batch was under way");
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
    let refused = "SELECT count(*) FROM batch WHERE error LIKE 'token_limit_exceeded%'";
    assert!((1..=2).contains(&shop.number(refused)));
}

#[test]
fn what_the_queue_does_not_take_waits_where_it_is_to_wait() {
    let shop = narrow(&[]);
    shop.run(&["--batch-size", "6", "--oversized", "wait"]).ends(0);
    assert_eq!(calls_and_lines(&shop), (0, 24));
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn one_that_waits_for_the_whole_queue_and_shares_an_answer_in_the_end_keeps_nobody_waiting() {
    let twins = ["the same", "the same", "another", "the same", "one more"].map(str::to_owned);
    let shop = Shop::open(&twins, &[], &["--prompt", "Say: {{ text }}"]);
    // Each is too large for the queue, and goes when it is empty.
    shop.run(&["--batch-tokens", "1", "--oversized", "wait"]).ends(0);
    assert_eq!(calls_and_lines(&shop), (0, 3));
    shop.all_answered();
}

#[test]
fn what_the_queue_can_never_take_goes_by_a_call_though_it_is_to_wait() {
    let long = format!("long {}", "word ".repeat(60));
    let texts = [long.as_str(), "short", "brief"].map(str::to_owned);
    let shop = Shop::open(&texts, &["--enqueued-tokens", "40"], &["--prompt", "Say: {{ text }}"]);
    shop.run(&["--oversized", "wait"]).ends(0);
    let (calls, lines) = calls_and_lines(&shop);
    assert_eq!((calls, lines), (1, 2));
    shop.each_charged_once();
    shop.all_answered();
}

#[test]
fn what_the_queue_does_not_take_is_reported_where_it_is_to_fail() {
    let shop = narrow(&[]);
    shop.run(&["--batch-size", "6", "--oversized", "fail"]).ends(3);
    let (calls, lines) = calls_and_lines(&shop);
    assert_eq!(calls, 0);
    assert_eq!(shop.folder.status()["requests"]["answered"], lines);
    assert!((12..24).contains(&lines), "{lines}");
    shop.balances_to_the_token();
    shop.run(&["--batch-size", "6"]).ends(0);
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn a_run_that_never_waits_comes_to_the_same_end_in_a_few_goes() {
    let faults = "upload_lost=every:3,create_lost=every:2,line_500=every:5,poll_500=every:4,content_cut=every:3";
    let shop = Shop::of(20, &["--faults", faults]);
    let mut codes = Vec::new();
    while codes.last() != Some(&0) {
        let said = shop.run(&["--no-wait", "--batch-size", "5"]);
        codes.push(said.code.unwrap());
        assert!([0, 4].contains(&codes[codes.len() - 1]), "{said:?}");
        assert!(codes.len() < 40, "it does not come to an end: {codes:?}");
    }
    assert!(codes.len() > 2, "{codes:?}");
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn what_batches_have_not_answered_by_a_time_goes_by_calls() {
    let shop = Shop::of(40, &["--batch-delay", "6s"]);
    shop.run(&["--batch-size", "20", "--by", "3s"]).ends(0);
    let (calls, lines) = calls_and_lines(&shop);
    assert!(calls > 0 && lines > 0, "{calls} calls, {lines} lines");
    let cancelled = "SELECT count(*) FROM batch WHERE ended = 'cancelled'";
    assert_eq!(shop.number(cancelled), 2);
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn what_was_done_before_a_cancellation_is_kept_and_the_rest_is_due() {
    let shop = Shop::of(20, &[]);
    // The first run submits, the second one looks: by then half of the lines are done.
    for _ in 0..2 {
        shop.run(&["--no-wait", "--batch-size", "10"]).ends(4);
    }
    let cancel = ["cancel", "--all", "--poll", "20ms"];
    Running::start(&shop.folder, &cancel).end().ends(0);
    assert_eq!(calls_and_lines(&shop), (0, 10));
    assert_eq!(shop.folder.status()["requests"]["answered"], 10);
    assert_eq!(shop.folder.ok(&["plan", "--json"]).json()["due"], 10);
    shop.balances_to_the_token();
    shop.run(&[]).ends(0);
    assert_eq!(shop.total("batches_created"), 3);
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn answers_that_were_cut_are_asked_again_with_more_tokens_until_they_are_whole() {
    let shop = Shop::open(
        &texts(12, 2),
        &["--faults", "length=0.3"],
        &["--prompt", "---\nmax_tokens: 4\nmax_tokens_limit: 64\n---\nSay: {{ text }}"],
    );
    shop.run(&["--batch-size", "6"]).ends(0);
    let truncated = "SELECT count(*) FROM attempt WHERE outcome = 'truncated'";
    assert!(shop.number(truncated) >= 12, "four tokens are too few for each");
    let limits = "SELECT count(DISTINCT max_tokens) FROM attempt";
    assert!(shop.number(limits) >= 3, "4, 8, 16, …");
    // Each try is a body of its own, and none of them is bought twice.
    assert!(shop.accounts().values().all(|account| account.charged == 1));
    assert_eq!(calls_and_lines(&shop).0, 0);
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn a_korean_table_gets_its_labels_through_batches() {
    let reviews: Vec<String> =
        (1..=30).map(|row| format!("배송이 {row}일 걸렸어요 \u{2028} \"최고\"예요 😀")).collect();
    let quoted: Vec<String> =
        reviews.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
    let prompt =
        "---\nchoices: [긍정, 부정, 중립]\n---\n다음 후기의 감정을 고르세요.\n\n{{ text }}";
    let faults = "line_separator=0.2,line_doubled=0.1,wronglabel=0.1,refusal=once";
    let shop = Shop::open(&quoted, &["--faults", faults], &["--prompt", prompt]);
    // Each is refused once, which is final for its body.
    shop.run(&["--batch-size", "8"]).ends(3);
    assert_eq!(shop.folder.status()["requests"]["failed"], 30);
    shop.folder.ok(&["retry", "--class", "refused"]);
    shop.run(&["--batch-size", "8"]).ends(0);
    let rows = exported(&shop.folder, &["text", "answer"]);
    let labels: BTreeSet<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    assert!(labels.is_subset(&BTreeSet::from(["긍정", "부정", "중립"])), "{labels:?}");
    assert!(labels.len() > 1, "{labels:?}");
    assert!(rows.iter().map(|row| &row[0]).eq(&reviews), "the rows are as they were");
    assert!(shop.struck("wronglabel") > 0 && shop.struck("line_separator") > 0);
    shop.balances();
    shop.all_answered();
}

#[test]
fn a_prompt_for_responses_goes_through_batches_of_responses() {
    let prompt = "---\nendpoint: responses\nmax_tokens: 64\n---\nSay: {{ text }}";
    let faults = "create_lost=first:1,line_500=first:3,line_separator=first:9,content_cut=first:1";
    let shop = Shop::open(&texts(15, 2), &["--faults", faults], &["--prompt", prompt]);
    shop.run(&["--batch-size", "5"]).ends(0);
    assert_eq!(calls_and_lines(&shop), (0, 15));
    shop.each_charged_once();
    shop.balances_to_the_token();
    shop.all_answered();
}

#[test]
fn what_is_in_batches_is_collected_though_no_row_is_left() {
    let shop = Shop::of(3, &[]);
    shop.run(&["--no-wait"]).ends(4);
    shop.folder.ok(&["remove", "rows.csv"]);
    shop.run(&[]).ends(0);
    assert_eq!(shop.number("SELECT count(*) FROM attempt WHERE outcome = 'answered'"), 3);
    shop.balances();
    shop.each_charged_once();
    shop.run(&[]).ends(1);
}
