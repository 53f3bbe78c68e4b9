//! `--max-cost` by the binary, held against the books of the simulated provider: what it has charged is never more than what
//! may be spent, whatever gets lost, whichever way requests go, and however often the run is gone on with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;

use overnight::domain::UnixMs;
use overnight::simulate::{self, Ledger, Settings, Simulator};
use serde_json::{Value, json};
use support::{Act, Folder, Provider};

/// A simulated provider with a socket, and the runtime that it lives on.
struct Served {
    simulator: Simulator,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(|| UnixMs(1_767_225_600_123));
        change(&mut settings);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let simulator = runtime.block_on(simulate::start(settings)).unwrap();
        Self { simulator, _runtime: runtime }
    }

    fn ledger(&self) -> Ledger {
        self.simulator.ledger()
    }
}

/// Of `simulated/small`, in nano-USD per token: in, cached, out. A batch is half of it.
const PRICE: [u64; 3] = [100, 10, 500];

/// What the provider has charged, in nano-USD: at least, since it does not say which cached tokens were lines'.
fn charged(served: &Served) -> u64 {
    let totals = served.ledger().totals;
    let calls = (
        totals.input_tokens - totals.batch_input_tokens,
        totals.output_tokens - totals.batch_output_tokens,
    );
    assert_eq!(totals.cached_tokens, 0, "these are short");
    calls.0 * PRICE[0]
        + calls.1 * PRICE[2]
        + (totals.batch_input_tokens * PRICE[0] + totals.batch_output_tokens * PRICE[2]) / 2
}

fn table(rows: usize) -> String {
    let texts = (0..rows).map(|row| format!("{row},줄 {row} of a table with some words in it\n"));
    format!("id,text\n{}", texts.collect::<String>())
}

/// A project of so many rows at a simulated provider.
fn project(served: &Served, rows: usize) -> Folder {
    let folder = Folder::new();
    let prompt = "---\nmodel: simulated/small\nmax_tokens: 40\n---\nSay of {{ text }}: ";
    folder.write("p.prompt", prompt).write("rows.csv", table(rows));
    let url = served.simulator.base_url().to_owned();
    folder.ok(&["init", "--prompt", "p.prompt", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder
}

fn usd(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn calls_stop_below_the_ceiling_and_a_higher_one_goes_on() {
    let served = Served::with(|_| ());
    let folder = project(&served, 120);
    let said = folder.run(&["run", "--max-cost", "0.0004"]).ends(5);
    assert!(
        said.stderr.contains("the budget of $0.000400 has no room for what is due"),
        "{said:?}"
    );
    assert!(said.stderr.contains("still due"), "{said:?}");
    assert!(said.stderr.contains("run --max-cost"), "the next command to type: {said:?}");
    let first = charged(&served);
    assert!((200_000..=400_000).contains(&first), "{first}");
    let status = folder.status();
    assert!((usd(&status["cost_usd"]) * 1e9 - first as f64).abs() < 1.0, "{status}");
    assert_eq!(usd(&status["reserved_usd"]), 0.0);
    // The same ceiling a second time: what was spent counts, and nothing is sent.
    let calls = served.ledger().totals.requests;
    folder.run(&["run", "--max-cost", "$0.0004"]).ends(5);
    folder.run(&["run", "--max-cost", "0"]).ends(5);
    assert_eq!(served.ledger().totals.requests, calls);
    folder.ok(&["run", "--max-cost", "0.01"]);
    assert!(charged(&served) > first);
    assert_eq!(folder.status()["requests"]["answered"], 120);
    folder.ok(&["audit"]);
}

#[test]
fn batches_and_calls_share_one_ceiling() {
    let served = Served::with(|_| ());
    let folder = project(&served, 200);
    let said = folder
        .run(&[
            "run",
            "--route",
            "batch",
            "--batch-size",
            "40",
            "--poll",
            "10ms",
            "--max-cost",
            "0.0006",
        ])
        .ends(5);
    let first = charged(&served);
    assert!((250_000..=600_000).contains(&first), "{first}: {said:?}");
    let made = served.ledger().totals.batches_created;
    assert!(made > 0, "{said:?}");
    folder.run(&["run", "--route", "realtime", "--max-cost", "0.0008"]).ends(5);
    assert!((first..=800_000).contains(&charged(&served)));
    assert_eq!(served.ledger().totals.batches_created, made);
    folder.ok(&["run", "--route", "batch", "--poll", "10ms", "--max-cost", "1"]);
    assert_eq!(folder.status()["requests"]["answered"], 200);
    let status = folder.status();
    assert!((usd(&status["cost_usd"]) * 1e9 - charged(&served) as f64).abs() < 300.0, "{status}");
    assert!(usd(&status["saved_usd"]["batch"]) > 0.0, "{status}");
}

/// A run that does not wait for its batches leaves, and the next one has what they gave back.
#[test]
fn what_waits_in_batches_is_set_aside_between_runs() {
    let served = Served::with(|settings| {
        settings.batch_delay = std::time::Duration::from_mins(10);
    });
    let folder = project(&served, 60);
    let submit = ["run", "--route", "batch", "--no-wait", "--poll", "10ms", "--max-cost", "0.0004"];
    folder.run(&submit).ends(4);
    let status = folder.status();
    let (in_batch, reserved) =
        (status["requests"]["in_batch"].as_u64(), usd(&status["reserved_usd"]));
    assert!(in_batch.unwrap() > 0 && in_batch.unwrap() < 60, "{status}");
    assert!(reserved > 0.0002 && reserved <= 0.0004, "{status}");
    let files = served.ledger().totals.files_uploaded;
    folder.run(&submit).ends(4);
    folder.run(&["run", "--route", "realtime", "--no-wait", "--max-cost", "0.0004"]).ends(4);
    assert_eq!(served.ledger().totals.files_uploaded, files, "no more may be promised");
    assert!(served.ledger().totals.requests == 0, "nor be called for");
}

#[test]
fn what_is_lost_on_the_way_counts_as_if_it_had_been_billed() {
    for faults in [
        "lost=0.3,reset=0.1,hang=0.05",
        "badjson=0.2,cut=0.2,empty=0.1",
        "500=0.3,429=0.2,html=0.1",
        "line_missing=0.3,line_garbled=0.2,line_unknown=0.1",
        "batch_expired=every:2,result_counts=0.5,line_missing=0.2",
    ] {
        let served = Served::with(|settings| {
            settings.faults = faults.parse().unwrap();
            settings.hang = std::time::Duration::from_millis(20);
        });
        let folder = project(&served, 90);
        let route = if faults.contains("line") { "batch" } else { "realtime" };
        for _ in 0..4 {
            let said = folder.run(&[
                "run",
                "--route",
                route,
                "--batch-size",
                "15",
                "--poll",
                "10ms",
                "--max-cost",
                "0.0004",
            ]);
            assert!(matches!(said.code, Some(0 | 3 | 5)), "{faults}: {said:?}");
            assert!(charged(&served) <= 400_000, "{faults}: {said:?}");
        }
        folder.ok(&["audit"]);
        let status = folder.status();
        let counted = usd(&status["cost_usd"]) + usd(&status["perhaps_billed_usd"]);
        assert!(charged(&served) as f64 <= counted * 1e9 + 1.0, "{faults}: {status}");
    }
}

#[test]
fn a_killed_run_has_set_aside_what_it_had_sent() {
    let served = Served::with(|settings| {
        settings.latency = std::time::Duration::from_millis(120);
    });
    let folder = project(&served, 150);
    let ceiling = ["run", "--concurrency", "8", "--max-cost", "0.0005"];
    for _ in 0..6 {
        let before = served.ledger().totals.requests;
        let mut run = folder.start(&ceiling);
        let is_over = |run: &mut std::process::Child| run.try_wait().unwrap().is_some();
        while served.ledger().totals.requests < before + 3 && !is_over(&mut run) {
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
        // It may have come to its end by itself.
        let _ = run.kill();
        run.wait().unwrap();
        assert!(charged(&served) <= 500_000);
    }
    let said = folder.run(&ceiling).ends(5);
    assert!(said.stderr.contains("without a bill may have cost up to"), "{said:?}");
    assert!(charged(&served) <= 500_000, "{}", charged(&served));
    assert!(usd(&folder.status()["perhaps_billed_usd"]) > 0.0);
}

#[test]
fn a_ceiling_that_cannot_hold_is_refused_before_anything_is_sent() {
    let provider = Provider::start(|_| Act::json(200, &json!({})));
    let url = provider.base_url();
    let refused = |prompt: &str, says: &[&str]| {
        let folder = Folder::new();
        folder.write("p.prompt", prompt).write("rows.csv", table(3));
        folder.ok(&["init", "--prompt", "p.prompt", "--base-url", &url]);
        folder.ok(&["add", "rows.csv"]);
        let said = folder.run(&["run", "--max-cost", "5"]).ends(2);
        for words in says {
            assert!(said.stderr.contains(words), "{words}: {said:?}");
        }
        folder
    };
    let folder = refused(
        "---\nmodel: my-own-model\nmax_tokens: 9\n---\n{{ text }}",
        &[
            "no price is known for openai/my-own-model",
            "overnight price openai/my-own-model --price-in",
            "--prices FILE",
        ],
    );
    folder.ok(&["price", "my-own-model", "--price-in", "1", "--price-out", "2"]);
    folder.run(&["run", "--max-cost", "0"]).ends(5);
    let folder = refused(
        "---\nmodel: my-own-model\nprice_in: 1\nprice_out: 2\n---\n{{ text }}",
        &["prompt p has no max_tokens", "--max-output-tokens N", "`max_tokens: N`"],
    );
    folder.ok(&[
        "price",
        "my-own-model",
        "--price-in",
        "1",
        "--price-out",
        "2",
        "--max-output-tokens",
        "100",
    ]);
    folder.run(&["run", "--max-cost", "0.000001"]).ends(5);
    for wrong in ["-1", "five", "1e3", ""] {
        let said = folder.run(&["run", "--max-cost", wrong]).ends(2);
        assert!(said.stderr.contains("US dollars"), "{wrong}: {said:?}");
    }
    assert_eq!(provider.count(), 0);
}

/// A provider that counts more tokens than there can be: one reply is enough to be more careful.
#[test]
fn a_provider_that_charges_more_than_can_be_is_met_with_larger_sums() {
    let provider = Provider::start(|_| {
        let mut reply = support::completion("yes", "stop");
        reply["usage"] =
            json!({"prompt_tokens": 4_000, "completion_tokens": 400, "total_tokens": 4_400});
        Act::json(200, &reply)
    });
    let folder = Folder::new();
    folder
        .write("p.prompt", "---\nmodel: simulated/small\nmax_tokens: 4\n---\n{{ text }}")
        .write("rows.csv", table(300));
    folder.ok(&["init", "--prompt", "p.prompt", "--base-url", &provider.base_url()]);
    folder.ok(&["add", "rows.csv"]);
    let said = folder.run(&["run", "--concurrency", "1", "--max-cost", "0.01"]).ends(5);
    // 600,000 nano-USD each.
    let spent = provider.count() as u64 * 600_000;
    assert!((8_000_000..=10_000_000).contains(&spent), "{spent}: {said:?}");
}

#[test]
fn a_pilot_takes_rows_at_random_and_the_next_one_takes_others() {
    let served = Served::with(|_| ());
    let drawn = |args: &[&str]| {
        let folder = project(&served, 400);
        folder.ok(&[&["run", "--sample", "20"], args].concat());
        let table = folder.ok(&["export", "-", "--format", "jsonl", "--only", "answered"]).stdout;
        let rows = table.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ids: BTreeSet<u64> =
            rows.map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
        (folder, ids)
    };
    let (folder, first) = drawn(&["--seed", "3"]);
    assert_eq!(first.len(), 20);
    assert!(first.iter().max() > Some(&200) && first.iter().min() < Some(&200), "{first:?}");
    assert_eq!(drawn(&["--seed", "3"]).1, first);
    assert_ne!(drawn(&["--seed", "4"]).1, first);
    folder.ok(&["run", "--sample", "20", "--seed", "3"]);
    assert_eq!(folder.status()["requests"]["answered"], 40);
    let settings = folder.ok(&["plan", "--json", "--sample", "5"]).json();
    assert_eq!(settings["prompts"][0]["taken_up"], 5);
    folder.run(&["run", "--sample", "5", "--limit", "5"]).ends(2);
    folder.ok(&["run"]);
    let said = folder.ok(&["run", "--sample", "20"]);
    assert!(said.stderr.contains("nothing to do"), "{said:?}");
}
