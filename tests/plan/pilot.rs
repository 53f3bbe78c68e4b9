//! After a pilot of 20 rows of the demo's table, the estimate of the rest is within 5% of what the rest is charged.

use super::support::{Folder, Simulator};
use super::{near, number, of_prompt, plan};

/// USD for a million tokens of `simulated/small`.
const PRICES: (f64, f64) = (0.10, 0.50);

/// The demo's project, at a simulator of its own; `extra` goes into the prompt's front matter.
fn demo(faults: &str, extra: &str) -> (Folder, Simulator) {
    let mut folder = Folder::new();
    let table = include_str!("../../fixtures/demo/reviews.csv");
    let prompt = include_str!("../../fixtures/demo/sentiment.prompt");
    let prompt = prompt.replacen("max_tokens: 20\n", &format!("max_tokens: 20\n{extra}"), 1);
    folder.write("reviews.csv", table).write("sentiment.prompt", prompt);
    let none: &[&str] = &[];
    let simulator = match faults {
        "" => Simulator::start(&folder, none),
        faults => Simulator::start(&folder, &["--faults", faults]),
    };
    folder.env("OPENAI_API_KEY", "sk-test");
    folder.ok(&["init", "--prompt", "sentiment.prompt", "--base-url", simulator.base_url()]);
    folder.ok(&["add", "reviews.csv", "--key", "id"]);
    (folder, simulator)
}

/// What the provider has charged, by its own books and the simulated model's price.
fn charged(simulator: &Simulator) -> f64 {
    let ledger = simulator.ledger();
    let total = |name: &str| number(&ledger["totals"][name]);
    let cost = |input: f64, output: f64| (input * PRICES.0 + output * PRICES.1) / 1e6;
    let in_batches = cost(total("batch_input_tokens"), total("batch_output_tokens"));
    cost(total("input_tokens"), total("output_tokens")) - in_batches / 2.0
}

fn spent(folder: &Folder) -> f64 {
    number(&folder.status()["cost_usd"])
}

#[test]
fn twenty_rows_tell_what_the_others_cost_by_calls() {
    let (folder, simulator) = demo("", "");
    folder.ok(&["run", "--sample", "20"]);
    let estimate = plan(&folder, &[]);
    let before = (charged(&simulator), spent(&folder));
    folder.ok(&["run"]);
    let after = (charged(&simulator), spent(&folder));
    near(number(&estimate["cost_usd"]), after.0 - before.0, 0.05);
    near(number(&estimate["cost_usd"]), after.1 - before.1, 0.05);
    assert!(number(&estimate["cost_usd_at_most"]) >= after.0 - before.0);
    let prompt = &estimate["prompts"][0];
    assert_eq!(prompt["tokens"]["input_basis"], "calibrated");
    assert_eq!(prompt["tokens"]["input_answers"], 20);
    assert_eq!(prompt["learned"]["requests"], 20);
}

#[test]
fn twenty_rows_tell_what_the_others_cost_in_batches() {
    let (folder, simulator) = demo("", "");
    folder.ok(&["run", "--sample", "20"]);
    let route = ["--route", "batch"];
    let estimate = plan(&folder, &route);
    assert_eq!(estimate["prompts"][0]["route"], "batch");
    let before = (charged(&simulator), spent(&folder));
    folder.ok(&["run", "--route", "batch", "--poll", "50ms"]);
    let after = (charged(&simulator), spent(&folder));
    near(number(&estimate["cost_usd"]), after.0 - before.0, 0.05);
    near(number(&estimate["cost_usd"]), after.1 - before.1, 0.05);
    let realtime = number(&estimate["prompts"][0]["cost_realtime_usd"]);
    near(realtime, 2.0 * (after.0 - before.0), 0.05);
}

#[test]
fn what_goes_wrong_is_part_of_what_the_others_cost() {
    // Every fifth answer is cut and bought again with more tokens, some are not in the form that was asked for.
    let (folder, simulator) = demo("length=0.2,wronglabel=0.1", "max_tokens_limit: 80\n");
    folder.run(&["run", "--sample", "160"]);
    let prompt = of_prompt(&folder, &[]);
    let before = charged(&simulator);
    folder.run(&["run"]);
    // Half of the table is a sample too: what goes wrong in it is near what goes wrong in the other half, not the same.
    near(number(&prompt["cost_usd"]), charged(&simulator) - before, 0.10);
    let learned = &prompt["learned"];
    assert!(number(&learned["billed_attempts_per_request"]) > 1.15, "{learned}");
    assert!((0.1..0.3).contains(&number(&learned["truncated_share"])), "{learned}");
    assert!((0.03..0.2).contains(&number(&learned["invalid_share"])), "{learned}");
}

#[test]
fn before_the_first_answer_everything_is_called_by_its_name() {
    let (folder, _simulator) = demo("", "");
    let tokens = of_prompt(&folder, &[])["tokens"].clone();
    assert_eq!(
        (&tokens["input_basis"], &tokens["output_basis"]),
        (&"exact_but_schema".into(), &"guess".into())
    );
    let page = folder.ok(&["plan", "--examples", "0"]).stdout;
    assert!(page.contains("in (exact but for the schema, which is estimated)"), "{page}");
    folder.ok(&["run", "--limit", "1"]);
    let page = folder.ok(&["plan", "--examples", "0"]).stdout;
    assert!(page.contains("in (calibrated on 1 answer)"), "{page}");
    assert!(page.contains("out (as the answer so far; at most"), "{page}");
}
