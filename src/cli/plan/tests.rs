use clap::Parser;

use super::*;
use crate::cli::fixture::{Call, Fixture};
use crate::domain::{BatchEnd, RemoteStatus, Route};
use crate::machine::batch::BatchMove;

/// 2026-11-24T00:00:00Z.
const NOW: UnixMs = UnixMs(1_795_478_400_000);

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    speed: Speed,
}

/// Plans as `plan` does when this is typed.
fn plan(fixture: &mut Fixture, typed: &str) -> Plan {
    let context = fixture.context();
    let words = std::iter::once("plan").chain(typed.split_whitespace());
    let typed = Typed::parse_from(words);
    let wish = Wish {
        ways: typed.ways,
        in_doubt: InDoubtPolicy::Resend,
        liveness: Liveness::Idle,
        base_url: None,
        canary: true,
        prices: &PriceBook::bundled(),
        speed: typed.speed,
        look: (Extent::Many, QUIETLY),
    };
    Plan::make(fixture.store(), &wish, &context).unwrap()
}

fn page_of(fixture: &mut Fixture, typed: &str) -> String {
    let mut plan = plan(fixture, typed);
    let mut context = fixture.context();
    context.project = "overnight.db".into();
    plan.look_closer(fixture.store(), (None, NOW), &PriceBook::bundled()).unwrap();
    page::page(&plan, (fixture.store(), 0, InDoubtPolicy::Resend), &context).unwrap()
}

#[test]
fn many_requests_go_in_batches_after_one_that_goes_ahead() {
    let mut fixture = Fixture::with_rows(600);
    assert_eq!(
        page_of(&mut fixture, "--batch-size 100"),
        "\
overnight.db: 600 rows

prompt label version 1
  model     simulated/small, chat/completions
  server    the simulator in this program; answers are made up
  due       600 requests: 600 pending
  route     batch, because a batch costs less
  batches   about 6, done within 24 h, often sooner
            the largest has 100 requests, about 21.0 kB and 1,400 input tokens
            1 request goes ahead by a call, to see whether the provider takes it
  tokens    about 8,400 in (exact)
            about 30,000 out (guessed; at most 60,000)
  longest   row #1 (r1), 14 tokens in
  cost      about $0.007933 in batches, at most $0.0164 if nothing has to be tried again
            about $0.0158 by calls, at most $0.0328
  time      unknown in batches, as none has ended yet, within 24 h each
            unknown by calls until some are answered: `overnight run --sample 20`, or give --rpm or --tpm
"
    );
    let ways = plan(&mut fixture, "--batch-size 100").prompts[0].ways;
    let of = (ways.taken_up, ways.in_batches, ways.batches, ways.calls, ways.no_room);
    assert_eq!(of, (600, 599, 6, 1, 0));
}

#[test]
fn few_requests_go_by_calls_and_both_prices_are_told() {
    let mut fixture = Fixture::with_rows(499);
    let page = page_of(&mut fixture, "");
    assert!(
        page.contains(
            "  route     realtime, because 499 requests are due, and a batch is for 500 or more\n  tokens"
        ),
        "{page}"
    );
    assert!(page.contains("  cost      about $0.0132 by calls, at most"), "{page}");
    assert!(page.contains("            about $0.006587 in batches, at most"), "{page}");
    let page = page_of(&mut fixture, "--route batch");
    assert!(page.contains("  route     batch, because it was asked for\n"), "{page}");
    assert!(page.contains("  cost      about $0.006587 in batches, at most"), "{page}");
    assert!(!page.contains("goes ahead"), "whoever asks for batches gets batches: {page}");
}

#[test]
fn a_limit_decides_how_many_are_taken_up_and_by_which_way() {
    let mut fixture = Fixture::with_rows(600);
    let page = page_of(&mut fixture, "--limit 20");
    assert!(
        page.contains("due       600 requests: 600 pending; --limit takes up 20 of them"),
        "{page}"
    );
    assert!(
        page.contains(
            "realtime, because --limit takes up 20 requests, and a batch is for 500 or more"
        ),
        "{page}"
    );
    fixture.prompt("grade", "Grade this: {{ text }}");
    let limited = plan(&mut fixture, "--limit 700");
    let taken: Vec<u64> = limited.prompts.iter().map(|plan| plan.ways.taken_up).collect();
    assert_eq!(taken, [600, 100]);
    assert_eq!(
        limited.in_short(),
        "700 requests, 698 in about 1 batch and 2 by calls, for about $0.009266"
    );
    let page = page_of(&mut fixture, "--limit 600");
    assert!(page.contains("; --limit takes up none of them\n"), "{page}");
}

#[test]
fn what_the_queue_has_no_room_for_goes_as_it_was_asked() {
    let mut fixture = Fixture::with_rows(600);
    let says = |fixture: &mut Fixture, typed: &str, line: &str, short: &str| {
        let page = page_of(fixture, typed);
        assert!(page.contains(line), "{page}");
        assert!(plan(fixture, typed).in_short().starts_with(short), "{typed}");
    };
    says(
        &mut fixture,
        "--batch-tokens 1400",
        "about 499 requests go by calls: --batch-tokens lets about 1,400 tokens wait in the provider's queue\n",
        "600 requests, 100 in about 1 batch and 500 by calls, for about $",
    );
    says(
        &mut fixture,
        "--batch-tokens 1400 --oversized wait --route batch",
        "about 500 requests wait for room: --batch-tokens",
        "600 requests, 100 in about 1 batch and 500 in later ones as the queue drains, for about $",
    );
    says(
        &mut fixture,
        "--batch-tokens 8372 --oversized fail --route batch",
        "about 2 requests are not sent: --batch-tokens",
        "598 requests in about 1 batch, for about $",
    );
    let plan = plan(&mut fixture, "--batch-tokens 8372 --oversized fail --route batch");
    assert!(plan.in_short().ends_with("; 2 find no room in batches"), "{}", plan.in_short());
    assert!(plan.cost().about < plan.prompts[0].cost_in_batches().unwrap().about);
}

#[test]
fn what_a_provider_once_said_of_its_queue_counts_and_what_waits_there() {
    let mut fixture = Fixture::with_rows(600);
    fixture.remember_queue(("embedded", "simulated/small"), 150);
    let (batch, _) = fixture.batch("one", &["r1", "r2"]);
    let page = page_of(&mut fixture, "--route batch");
    assert!(
        page.starts_with(
            "overnight.db: 600 rows\n1 batch open, with 2 requests not counted as due\n"
        )
    );
    assert!(
        page.contains(
            "about 589 requests go by calls: the provider lets about 150 tokens of this model wait in its queue, where 20 wait already\n"
        ),
        "{page}"
    );
    assert!(page.contains("not due   2 in open batches\n"), "{page}");
    fixture.submit(batch);
    fixture.look(batch, BatchMove::Seen(RemoteStatus::Ended(BatchEnd::Expired)), None);
    let ways = plan(&mut fixture, "--route batch").prompts[0].ways;
    assert_eq!((ways.in_batches, ways.no_room), (10, 588), "what has ended makes room");
}

#[test]
fn a_prompt_that_was_answered_before_sends_nothing_ahead() {
    let mut fixture = Fixture::with_rows(600);
    assert!(plan(&mut fixture, "").prompts[0].ways.is_canary_sent);
    let sent = fixture.send(&Call::new("r1", "label"));
    fixture.answer(sent, "positive");
    let ways = plan(&mut fixture, "").prompts[0].ways;
    assert!(!ways.is_canary_sent);
    assert_eq!((ways.in_batches, ways.calls), (599, 0));
}

#[test]
fn prompts_on_one_model_are_counted_together_and_share_batches() {
    let mut fixture = Fixture::with_rows(300);
    assert_eq!(plan(&mut fixture, "").prompts[0].choice.route, Route::Realtime);
    fixture.prompt("grade", "Grade this: {{ text }}");
    let both = plan(&mut fixture, "");
    for prompt in &both.prompts {
        assert_eq!((prompt.choice.route, prompt.ways.batches), (Route::Batch, 1));
    }
    assert!(both.in_short().starts_with("600 requests, 598 in about 1 batch and 2 by calls"));
    assert!(
        page_of(&mut fixture, "")
            .contains("batches   about 1, shared with another prompt, done within 24 h")
    );
}

#[test]
fn a_provider_without_batches_says_so_and_has_one_price() {
    let mut fixture = Fixture::with_rows(600);
    fixture.prompt_for("anthropic/claude-haiku-4-5", "label", "Label: {{ text }}");
    let page = page_of(&mut fixture, "");
    assert!(page.contains("realtime, because the provider has no batches\n"), "{page}");
    assert!(!page.contains("in batches"), "{page}");
    let json = plan(&mut fixture, "").as_json();
    assert_eq!(json["prompts"][0]["cost_batch_usd"], serde_json::Value::Null);
    assert!(json["prompts"][0]["cost_realtime_usd"].as_f64().unwrap() > 0.0);
    assert!(plan(&mut fixture, "").must_have_batches().is_ok());
    let refused = plan(&mut fixture, "--route batch").must_have_batches().unwrap_err();
    assert_eq!(refused.exit, Exit::Usage);
}

#[test]
fn a_model_without_a_price_is_planned_all_the_same() {
    let mut fixture = Fixture::with_rows(600);
    fixture.prompt_for("openai/nobody-knows", "label", "Label: {{ text }}");
    let page = page_of(&mut fixture, "");
    assert!(
        page.contains(
            "  cost      unknown by calls or in batches: no price is known for this model\n"
        ),
        "{page}"
    );
    let plan = plan(&mut fixture, "");
    assert_eq!(plan.cost().about, None);
    assert_eq!(
        plan.in_short(),
        "600 requests, 599 in about 1 batch and 1 by a call, at an unknown price"
    );
    let prompt = &plan.as_json()["prompts"][0];
    for key in ["cost_usd", "cost_realtime_usd", "cost_batch_usd"] {
        assert_eq!(prompt[key], serde_json::Value::Null, "{key}");
    }
}

#[test]
fn a_script_reads_the_ways_and_the_prices() {
    let mut fixture = Fixture::with_rows(600);
    fixture.batch("one", &["r1", "r2"]);
    let json = plan(&mut fixture, "--route batch").as_json();
    assert_eq!(json["due"], 598);
    assert_eq!(json["open_batches"], serde_json::json!({"batches": 1, "requests": 2}));
    let prompt = &json["prompts"][0];
    let of = |key: &str| prompt[key].clone();
    assert_eq!((of("route"), of("why")), ("batch".into(), "it was asked for".into()));
    assert_eq!((of("batches"), of("in_batches"), of("by_calls")), (1.into(), 598.into(), 0.into()));
    assert_eq!(of("cost_usd"), of("cost_batch_usd"));
    assert!(of("cost_usd").as_f64() < of("cost_realtime_usd").as_f64());
}

#[test]
fn examples_are_of_requests_that_are_due() {
    let mut fixture = Fixture::with_rows(3);
    fixture.batch("one", &["r1", "r2"]);
    let sent = fixture.send(&Call::new("r3", "label"));
    fixture.fail(sent, crate::domain::FailureClass::Timeout, "no reply");
    let plan = plan(&mut fixture, "");
    let context = fixture.context();
    let asked = (&*fixture.store(), 3, InDoubtPolicy::Resend);
    let page = page::page(&plan, asked, &context).unwrap();
    assert!(page.ends_with("\n  row #3\n  user:\n    Label this: text of r3\n"), "{page}");
}

#[test]
fn a_price_of_the_table_grows_old_and_one_of_ones_own_does_not() {
    let mut fixture = Fixture::with_rows(3);
    let book = PriceBook::bundled();
    let mut kinds = |days: u64| -> Vec<&'static str> {
        let mut plan = plan(&mut fixture, "");
        let now = NOW.plus(std::time::Duration::from_hours(24 * days));
        plan.look_closer(fixture.store(), (None, now), &book).unwrap();
        plan.details[0].warnings.iter().map(|warning| warning.kind).collect()
    };
    assert_eq!(kinds(0), Vec::<&str>::new());
    assert_eq!(kinds(100), Vec::<&str>::new());
    assert_eq!(kinds(400), ["old_price"]);
}
