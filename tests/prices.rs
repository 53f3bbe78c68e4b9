//! What a request costs, held against sums made here by hand from the usage that a scripted provider reports: prices from
//! files, from the project itself and from the program, by calls and in batches.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::batches::runs::{exported, project, query, run, texts};
use support::batches::{BatchProvider, Do, Edit, Kind, Script};
use support::{Act, Folder, Provider, Said, completion};

/// What a model's tokens cost, in nano-USD per million: input, cached, output, reasoning.
type Four = [i128; 4];

/// The tokens of a row's reply.
#[derive(Clone, Copy, Debug)]
struct Used {
    input: i128,
    cached: i128,
    output: i128,
    reasoning: i128,
}

impl Used {
    fn of_row(row: i128) -> Self {
        let output = 50 + 3 * row;
        Self { input: 100 + 37 * row, cached: 11 * row, output, reasoning: 5 * row }
    }

    /// The cost in nano-USD, rounded up.
    fn cost(self, price: Four) -> i128 {
        let parts =
            [self.input - self.cached, self.cached, self.output - self.reasoning, self.reasoning];
        let total: i128 = parts.iter().zip(price).map(|(tokens, price)| tokens * price).sum();
        (total + 999_999) / 1_000_000
    }

    fn as_json(self) -> Value {
        let Self { input, cached, output, reasoning } = self;
        let whole = |number: i128| u64::try_from(number).unwrap();
        json!({
            "prompt_tokens": whole(input), "completion_tokens": whole(output), "total_tokens": whole(input + output),
            "prompt_tokens_details": {"cached_tokens": whole(cached)},
            "completion_tokens_details": {"reasoning_tokens": whole(reasoning)},
        })
    }
}

/// Puts the usage of its row into a completion, which answers `SAY: ROW N`, wherever it stands in a reply.
fn put_usage(value: &mut Value) {
    let text = value.pointer("/choices/0/message/content").and_then(Value::as_str);
    let row = text.and_then(|text| text.rsplit(' ').next()?.parse().ok());
    if let Some(row) = row {
        value["usage"] = Used::of_row(row).as_json();
        return;
    }
    for name in ["response", "body"] {
        if let Some(inner) = value.get_mut(name) {
            put_usage(inner);
        }
    }
}

fn with_usage(body: &[u8]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(body).unwrap();
    put_usage(&mut value);
    value.to_string().into_bytes()
}

/// A provider whose replies tell the usage of their row; it lets so many words wait.
fn counting(queue_tokens: Option<usize>) -> BatchProvider {
    BatchProvider::start(Script {
        stages: Vec::new(),
        on: Box::new(|kind, _| match kind {
            Kind::Chat => Do::Edit(Edit(Arc::new(with_usage))),
            _ => Do::Right,
        }),
        lines: Box::new(|_, output, _| {
            for line in output.iter_mut() {
                *line = with_usage(line);
            }
        }),
        queue_tokens,
        ..Script::default()
    })
}

/// Each row's way and cost, as the export tells it, in nano-USD.
fn costs(folder: &Folder) -> Vec<(String, i128)> {
    let nano = |usd: &str| (usd.parse::<f64>().unwrap() * 1e9).round() as i128;
    let rows = exported(folder, &["route", "cost_usd"]);
    rows.into_iter().map(|row| (row[0].clone(), nano(&row[1]))).collect()
}

/// What the project has cost, in nano-USD; `None` where it is not known.
fn spent(folder: &Folder) -> Option<i128> {
    folder.status()["cost_usd"].as_f64().map(|usd| (usd * 1e9).round() as i128)
}

fn price_of(folder: &Folder, model: &str) -> Value {
    folder.ok(&["price", model, "--json"]).json()[0].clone()
}

/// Numbers as others write them: floats that came out of arithmetic, exponents, a string, and one below a nano-USD.
const TRICKY: &str = r#"{
  "sample_spec": {"input_cost_per_token": 0.0, "max_tokens": "LEGACY parameter"},
  "dall-e-3": {"mode": "image_generation", "input_cost_per_image": 0.04},
  "broken": {"mode": "chat", "input_cost_per_token": -7, "output_cost_per_token": {}},
  "also-broken": [1, 2],
  "test-model": {
    "litellm_provider": "openai", "mode": "chat", "max_input_tokens": 1e6, "max_output_tokens": 8192,
    "input_cost_per_token": 1.23456789e-07, "cache_read_input_token_cost": 1.5000000000000002e-08,
    "output_cost_per_token": 0.0000042, "output_cost_per_reasoning_token": "9.9E-6",
    "input_cost_per_token_batches": 6.1728395e-08, "cache_read_input_token_cost_batches": 7e-9,
    "output_cost_per_token_batches": 2.1e-06,
    "input_cost_per_token_priority": 1, "supports_vision": true, "source": "https://example.com"
  },
  "simulated/small": {"mode": "chat", "input_cost_per_token": 3e-6, "output_cost_per_token": 1.5e-05}
}"#;
const CALL: Four = [123_456_789, 15_000_000, 4_200_000_000, 9_900_000_000];
/// Reasoning has no price of its own in a batch: it is as much cheaper there as other output is.
const BATCH: Four = [61_728_395, 7_000_000, 2_100_000_000, 4_950_000_000];

#[test]
fn each_kind_of_token_costs_what_the_file_says_by_calls_and_in_batches() {
    // The second batch finds the queue full, and its rows go by calls.
    let provider = counting(Some(14));
    let texts = texts(6);
    let folder = project(&provider, &texts, &[]);
    folder.write("litellm.json", TRICKY);
    run(&folder, &["--batch-size", "3", "--prices", "litellm.json"]).ends(0);
    let costs = costs(&folder);
    let mut sum = 0;
    for (row, (route, cost)) in (1..).zip(&costs) {
        let price = if route == "batch" { BATCH } else { CALL };
        assert_eq!(*cost, Used::of_row(row).cost(price), "row {row} by {route}");
        sum += cost;
    }
    for way in ["batch", "realtime"] {
        assert!(costs.iter().any(|(route, _)| route == way), "{costs:?}");
    }
    assert_eq!(spent(&folder), Some(sum));
    let on_record = query(&folder, "SELECT sum(cost_nanousd) FROM attempt");
    assert_eq!(on_record, [[sum.to_string()]]);
    folder.ok(&["audit"]);
}

#[test]
fn a_file_that_a_run_was_given_is_remembered_by_the_one_that_collects() {
    let provider = counting(None);
    let folder = project(&provider, &texts(4), &[]);
    folder.write("litellm.json", TRICKY);
    run(&folder, &["--no-wait", "--prices", "litellm.json"]).ends(4);
    assert_eq!(spent(&folder), Some(0));
    std::fs::remove_file(folder.file("litellm.json")).unwrap();
    run(&folder, &[]).ends(0);
    let sum: i128 = (1..=4).map(|row| Used::of_row(row).cost(BATCH)).sum();
    assert_eq!(spent(&folder), Some(sum));
    assert_eq!(price_of(&folder, "test-model")["from"], "remembered");
    folder.ok(&["audit"]);

    // Only what was cached costs another price by now; what was billed was billed.
    folder.ok(&[
        "price",
        "test-model",
        "--price-in",
        "0.123456789",
        "--price-out",
        "4.2",
        "--price-cached",
        "1",
    ]);
    folder.ok(&["audit"]);
    query(&folder, "UPDATE attempt SET cost_nanousd = cost_nanousd + 1 WHERE id = 2");
    let found = folder.run(&["audit", "--json"]).ends(3).json();
    let findings = found["findings"].as_array().unwrap().iter();
    let of_cost: Vec<_> = findings.filter(|finding| finding["check"] == "cost").collect();
    assert_eq!(of_cost.len(), 1, "{found:#}");
    query(&folder, "UPDATE attempt SET cost_nanousd = cost_nanousd - 1 WHERE id = 2");
    folder.ok(&["price", "test-model", "--remove"]);

    // The next file counts from then on, and nothing that was spent changes.
    let next = r#"{"test-model": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}"#;
    folder.write("next.json", next);
    folder.write("more.csv", "text\nrow 5\n");
    folder.ok(&["add", "more.csv"]);
    folder.ok(&["run", "--route", "realtime", "--prices", "next.json"]);
    let call = Used::of_row(5).cost([1_000_000_000, 1_000_000_000, 2_000_000_000, 2_000_000_000]);
    assert_eq!(spent(&folder), Some(sum + call));
    folder.ok(&["audit"]);
}

#[test]
fn what_a_person_sets_counts_before_a_file_and_a_file_before_the_table() {
    let folder = Folder::new();
    folder.ok(&["init", "--prompt", "{{ text }}", "--model", "simulated/small"]);
    folder.write("rows.csv", "text\none\n").write("litellm.json", TRICKY);
    folder.ok(&["add", "rows.csv"]);
    let price = |args: &[&str]| {
        let said = folder.ok(&[&["price", "simulated/small", "--json"], args].concat()).json();
        (said[0]["from"].clone(), said[0]["usd_per_mtok"]["in"].clone())
    };
    let file: &[&str] = &["--prices", "litellm.json"];
    assert_eq!(price(&[]), (json!("bundled"), json!(0.1)));
    assert_eq!(price(file), (json!("file"), json!(3.0)));
    assert_eq!(price(&[]), (json!("bundled"), json!(0.1)), "a look is not remembered");
    folder.ok(&["run", "--prices", "litellm.json"]);
    assert_eq!(price(&[]), (json!("remembered"), json!(3.0)));
    folder.ok(&["price", "simulated/small", "--price-in", "7", "--price-out", "$8.5"]);
    assert_eq!(price(file), (json!("own"), json!(7.0)));
    folder.ok(&["price", "simulated/small", "--price-cached", "0.5", "--batch-discount", "25"]);
    let own = &folder.ok(&["price", "--json"]).json()[0];
    let of = |call: f64, cached: f64, out: f64| json!({"in": call, "cached": cached, "cache_write": call, "out": out, "reasoning": out});
    assert_eq!(own["usd_per_mtok"], of(7.0, 0.5, 8.5));
    assert_eq!(own["batch_usd_per_mtok"], of(5.25, 0.375, 6.375));
    let removed = folder.ok(&["price", "simulated/small", "--remove", "--json"]).json();
    assert_eq!(removed["removed"], json!(["own", "file"]));
    assert_eq!(price(&[]), (json!("bundled"), json!(0.1)));
    // A later run goes by what counts then.
    let before = spent(&folder).unwrap();
    folder.write("more.csv", "text\ntwo\n");
    folder.ok(&["add", "more.csv"]);
    folder.ok(&["run"]);
    let tokens = query(&folder, "SELECT input_tokens, output_tokens FROM attempt ORDER BY id");
    let cost = |tokens: &[String], [input, output]: [i128; 2]| {
        let number = |at: usize| tokens[at].parse::<i128>().unwrap();
        number(0) * input + number(1) * output
    };
    assert_eq!(before, cost(&tokens[0], [3_000, 15_000]));
    assert_eq!(spent(&folder), Some(before + cost(&tokens[1], [100, 500])));
    folder.ok(&["audit"]);
}

/// A server whose every reply has used these tokens.
fn serving(used: Used) -> Provider {
    Provider::start(move |_| {
        let mut reply = completion("fine", "stop");
        reply["usage"] = used.as_json();
        Act::json(200, &reply)
    })
}

fn asking(provider: &Provider, model: &str, prompt: &str) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "test");
    folder.write("rows.csv", "text\none\n").write("p.prompt", prompt);
    let url = provider.base_url();
    folder.ok(&["init", "--prompt", "p.prompt", "--model", model, "--base-url", &url]);
    folder.ok(&["add", "rows.csv"]);
    folder
}

#[test]
fn a_long_input_changes_the_price_of_all_tokens_of_its_request() {
    let file = r#"{"m": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
        "cache_read_input_token_cost": 1e-07, "cache_read_input_token_cost_above_2k_tokens": 2e-07,
        "input_cost_per_token_above_2k_tokens": 1.7e-06, "output_cost_per_token_above_2k_tokens": 3e-06}}"#;
    for (input, price) in [
        (2000, [1_000_000_000, 100_000_000, 2_000_000_000, 2_000_000_000]),
        (2001, [1_700_000_000, 200_000_000, 3_000_000_000, 3_000_000_000]),
    ] {
        let used = Used { input, cached: 1999, output: 10, reasoning: 3 };
        let provider = serving(used);
        let folder = asking(&provider, "m", "{{ text }}");
        folder.write("litellm.json", file);
        folder.ok(&["run", "--prices", "litellm.json"]);
        assert_eq!(spent(&folder), Some(used.cost(price)), "{input}");
        folder.ok(&["audit"]);
    }
}

#[test]
fn what_was_put_into_the_cache_costs_a_quarter_more_where_the_provider_bills_it() {
    let provider = Provider::start(|_| {
        let mut reply = completion("fine", "stop");
        reply["usage"] = json!({
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 1501},
            "completion_tokens_details": {"reasoning_tokens": 100},
        });
        Act::json(200, &reply)
    });
    // In nano-USD per token: input, cached, put into the cache, output.
    for (model, [input, cached, written, output]) in
        [("gpt-6-luna", [100, 10, 125, 500]), ("gpt-5-mini", [250, 25, 250, 2_000])]
    {
        let folder = asking(&provider, model, "{{ text }}");
        folder.ok(&["run", "--max-cost", "1"]);
        let cost = 105 * input + 400 * cached + 1501 * written + 300 * output;
        assert_eq!(spent(&folder), Some(cost), "{model}");
        let status = folder.status();
        assert_eq!(status["tokens"]["cache_write"], 1501);
        assert_eq!(status["tokens"]["cached"], 400);
        let page = folder.ok(&["show", "#1"]).stdout;
        assert!(page.contains("2,006 in (400 cached, 1,501 put into the cache)"), "{page}");
        folder.ok(&["audit"]);

        // Another count, or none, is not what the reply says, whatever it costs.
        for count in ["1500", "NULL"] {
            query(&folder, &format!("UPDATE attempt SET cache_write_tokens = {count}"));
            let found = folder.run(&["audit", "--json"]).ends(3).json();
            let finding = &found["findings"][0];
            assert_eq!(finding["check"], "reading", "{model} {count}: {found:#}");
        }
    }
}

#[test]
fn what_is_set_aside_covers_an_input_that_is_all_put_into_the_cache() {
    // Nobody says what was billed, so what was set aside stays on record.
    let provider = Provider::start(|_| Act::Close);
    let set_aside = |written: &str| {
        let mut folder = Folder::new();
        folder.env("OPENAI_API_KEY", "test");
        folder.write("rows.csv", "text\none\n");
        folder.write("p.prompt", "---\nmodel: qwen3\nmax_tokens: 10\n---\n{{ text }}");
        let url = provider.base_url();
        folder.ok(&["init", "--prompt", "p.prompt", "--base-url", &url, "--max-attempts", "1"]);
        folder.ok(&["add", "rows.csv"]);
        let price = ["--price-in", "1", "--price-out", "2", "--price-cache-write", written];
        let said = folder.ok(&[&["price", "qwen3", "--json"], &price[..]].concat()).json();
        assert_eq!(said["usd_per_mtok"]["cache_write"], written.parse::<f64>().unwrap());
        folder.run(&["run", "--max-cost", "1"]).ends(3);
        let reserved = query(&folder, "SELECT reserved_nanousd FROM attempt");
        let output = 10 * 2_000;
        reserved[0][0].parse::<i64>().unwrap() - output
    };
    let input = set_aside("1");
    assert!(input > 0);
    assert_eq!([set_aside("0.1"), set_aside("3")], [input, 3 * input]);
}

#[test]
fn a_model_without_a_price_is_asked_and_its_cost_said_to_be_unknown() {
    let used = Used { input: 1000, cached: 0, output: 10, reasoning: 0 };
    let provider = serving(used);
    let folder = asking(&provider, "unheard-of", "{{ text }}");
    let plan = folder.ok(&["plan"]);
    assert!(plan.stdout.contains("unknown"), "{plan:#?}");
    assert_eq!(price_of(&folder, "unheard-of")["from"], Value::Null);
    folder.ok(&["run"]);
    assert_eq!(spent(&folder), None);
    let said = folder.ok(&["price"]);
    assert!(
        said.stderr.contains("`overnight price openai/unheard-of --price-in USD --price-out USD`"),
        "{said:#?}"
    );
    // A price counts from when it is set.
    folder.ok(&["price", "unheard-of", "--price-in", "1", "--price-out", "2"]);
    folder.write("more.csv", "text\ntwo\n");
    folder.ok(&["add", "more.csv"]);
    folder.ok(&["run"]);
    let costs = query(&folder, "SELECT cost_nanousd FROM attempt ORDER BY id");
    assert_eq!(
        costs,
        [[String::new()], [used.cost([1_000_000_000, 0, 2_000_000_000, 0]).to_string()]]
    );
    assert_eq!(spent(&folder), None, "a part of it stays unknown");
    folder.ok(&["audit"]);
}

#[test]
fn a_faster_service_tier_has_no_known_price_and_a_flexible_one_costs_at_most_the_usual() {
    let used = Used { input: 1000, cached: 0, output: 10, reasoning: 0 };
    let usual = used.cost([150_000_000, 0, 600_000_000, 0]);
    for (tier, known) in [
        ("priority", None),
        ("fast", None),
        ("scale", None),
        ("flex", Some(usual)),
        ("auto", Some(usual)),
        ("default", Some(usual)),
    ] {
        let provider = serving(used);
        let prompt = format!("---\nparameters:\n  service_tier: {tier}\n---\n{{{{ text }}}}");
        let folder = asking(&provider, "gpt-4o-mini", &prompt);
        if known.is_none() {
            let refused = folder.run(&["run", "--max-cost", "1"]).ends(2);
            assert!(refused.stderr.contains("no price is known for openai/gpt-4o-mini"));
            assert_eq!(provider.count(), 0);
        }
        folder.ok(&["run"]);
        assert_eq!(spent(&folder), known, "{tier}");
        if known.is_none() {
            let said = folder.ok(&["price"]);
            assert!(
                said.stderr.contains("prompt p asks for a service tier whose price is not known"),
                "{said:#?}"
            );
        }
        // One that a person sets is meant for what they ask for.
        folder.ok(&["price", "gpt-4o-mini", "--price-in", "3", "--price-out", "6"]);
        folder.write("more.csv", "text\ntwo\n");
        folder.ok(&["add", "more.csv"]);
        folder.ok(&["run"]);
        let last = query(&folder, "SELECT cost_nanousd FROM attempt ORDER BY id DESC LIMIT 1");
        assert_eq!(last, [[used.cost([3_000_000_000, 0, 6_000_000_000, 0]).to_string()]], "{tier}");
        folder.ok(&["audit"]);
    }
}

#[test]
fn nonsense_in_a_file_stops_only_who_asks_for_it_and_says_which_and_why() {
    let folder = Folder::new();
    folder.write("litellm.json", TRICKY).write("rows.csv", "text\none\n");
    folder.ok(&["-p", "good.db", "init", "--prompt", "{{ text }}", "--model", "simulated/small"]);
    folder.ok(&["-p", "good.db", "plan", "--prices", "litellm.json"]);
    let url = "http://127.0.0.1:9/v1";
    folder.ok(&["init", "--prompt", "{{ text }}", "--model", "broken", "--base-url", url]);
    folder.ok(&["add", "rows.csv"]);
    let refused = |said: &Said| {
        assert_eq!(
            said.stderr,
            "error: cannot read the prices in litellm.json\n  caused by: the entry \"broken\" of the price table, for \
             openai/broken, cannot be used\n  caused by: input_cost_per_token is -7, which is not a price in USD per \
             token from 0 to below 1\nhint: `overnight price openai/broken --price-in USD --price-out USD` sets a \
             price by hand, in dollars per million tokens\n"
        );
    };
    for command in [&["plan"] as &[&str], &["run"], &["run", "--dry-run"], &["price"]] {
        refused(&folder.run(&[command, &["--prices", "litellm.json"]].concat()).ends(1));
    }
    // Whose price is set by hand needs no file.
    folder.ok(&["price", "broken", "--price-in", "0", "--price-out", "0"]);
    let plan = folder.ok(&["plan", "--prices", "litellm.json"]);
    assert!(plan.stdout.contains("$0.00"), "{plan:#?}");

    for (content, why) in [
        ("{\"a\": ", "the price table is not a JSON object of models"),
        ("[]", "the price table is not a JSON object of models"),
        ("model;price\n", "the price table has no column provider"),
        ("", "the price table has no column provider"),
    ] {
        folder.write("odd", content);
        let said = folder.run(&["plan", "--prices", "odd"]).ends(1);
        assert!(said.stderr.contains(why), "{content:?}: {said:#?}");
    }
    folder.write("odd", b"\xff\xfe");
    assert!(
        folder.run(&["plan", "--prices", "odd"]).ends(1).stderr.contains("it is not UTF-8 text")
    );
    assert!(folder.run(&["plan", "--prices", "nowhere"]).ends(1).stderr.contains("No such file"));
}

#[test]
fn a_table_by_hand_is_read_too() {
    let used = Used::of_row(9);
    let provider = serving(used);
    let folder = asking(&provider, "qwen3", "{{ text }}");
    folder.write(
        "own.csv",
        "# ours\nprovider,model,input_usd_per_mtok,cached_usd_per_mtok,output_usd_per_mtok,reasoning_usd_per_mtok,\
         max_output_tokens\nopenai,qwen3,0.123456789,0.01,1,2,500\nopenai,*,9,9,9,9,\n",
    );
    folder.ok(&["run", "--prices", "own.csv"]);
    let price = [123_456_789, 10_000_000, 1_000_000_000, 2_000_000_000];
    assert_eq!(spent(&folder), Some(used.cost(price)));
    assert_eq!(price_of(&folder, "qwen3")["max_output_tokens"], 500);
}

#[test]
fn a_price_in_a_prompt_is_its_models_and_no_part_of_the_prompt() {
    let used = Used::of_row(3);
    let provider = serving(used);
    let prompt = |price: &str| {
        format!(
            "---\nmax_tokens: 99\n{price}temperature: 0\n---\nsystem:\nprice_in: 5 is text here\n\nuser:\n{{{{ text }}}}\n"
        )
    };
    let folder = asking(
        &provider,
        "qwen3",
        &prompt("price_in: 1.5 # a remark\nprice_out: 6\nprice_cached: 0.25\n"),
    );
    let price = price_of(&folder, "qwen3");
    assert_eq!((&price["from"], &price["usd_per_mtok"]["in"]), (&json!("own"), &json!(1.5)));
    let source = folder.ok(&["prompt", "show"]).stdout;
    assert!(!source.contains("1.5") && source.contains("price_in: 5 is text here"), "{source}");
    folder.ok(&["run"]);
    let four = [1_500_000_000, 250_000_000, 6_000_000_000, 6_000_000_000];
    assert_eq!(spent(&folder), Some(used.cost(four)));
    let sent = String::from_utf8(provider.requests()[0].body.clone()).unwrap();
    assert!(sent.contains("price_in: 5 is text here") && !sent.contains("0.25"), "{sent}");

    // Another price is no other prompt; nothing is due.
    for price in ["price_out: 7\nbatch_discount: 10\n", ""] {
        folder.write("p.prompt", prompt(price));
        let said = folder.ok(&["prompt", "add", "p.prompt", "--model", "qwen3", "--json"]).json();
        assert_eq!((&said["added"], &said["version"]), (&json!(false), &json!(1)));
    }
    let price = price_of(&folder, "qwen3");
    assert_eq!(price["usd_per_mtok"]["out"], 7.0);
    assert_eq!(price["batch_usd_per_mtok"]["out"], 6.3);
    assert_eq!(folder.ok(&["plan", "--json"]).json()["due"], 0);
    folder.ok(&["audit"]);

    for (line, why) in [
        (
            "price_in: -1\n",
            "line 3 of the prompt: `price_in` must be an amount of US dollars per million tokens, such as 2 or 0.15",
        ),
        ("price_in: 1e3\n", "line 3 of the prompt: `price_in` must be an amount"),
        (
            "batch_discount: 0.5\n",
            "line 3 of the prompt: `batch_discount` must be a whole number of percent, 0 to 100",
        ),
        ("price_in: 1\nmax_token: 5\n", "line 4 of the prompt: there is no key `max_token`"),
        ("\"price_in\": 1\n", "line 3 of the prompt: `price_in` must stand on a line of its own"),
    ] {
        folder.write("p.prompt", prompt(line));
        let said = folder
            .run(&["prompt", "add", "p.prompt", "--name", "other", "--model", "qwen3"])
            .ends(1);
        assert!(said.stderr.contains(why), "{line}: {said:#?}");
    }
    folder.write("p.prompt", prompt("price_in: 1\n"));
    let half =
        folder.run(&["prompt", "add", "p.prompt", "--name", "other", "--model", "qwen4"]).ends(2);
    assert!(
        half.stderr.contains("the price of openai/qwen4 needs what tokens cost both in and out"),
        "{half:#?}"
    );
    assert!(
        half.stderr.contains("`overnight price openai/qwen4 --price-in USD --price-out USD"),
        "{half:#?}"
    );
}

#[test]
fn init_takes_the_price_of_its_model() {
    let folder = Folder::new();
    let init = |more: &[&str]| folder.run(&[&["init"], more].concat());
    let prompt: &[&str] =
        &["--prompt", "{{ text }}", "--model", "qwen3", "--base-url", "http://127.0.0.1:9/v1"];
    let refused = init(&["--price-in", "1", "--price-out", "2"]).ends(2);
    assert!(refused.stderr.contains("there is no prompt"), "{refused:#?}");
    for wrong in ["-1", "1e3", "one", "1000000", ""] {
        init(&[prompt, &["--price-in", wrong, "--price-out", "2"]].concat()).ends(2);
    }
    init(&[prompt, &["--price-in", "1"]].concat()).ends(2);
    init(&[prompt, &["--price-in", "1", "--price-out", "2", "--batch-discount", "101"]].concat())
        .ends(2);
    assert!(!folder.file("overnight.db").exists());
    init(
        &[
            prompt,
            &[
                "--price-in",
                "$1",
                "--price-out",
                ".5",
                "--price-cached",
                "0",
                "--batch-discount",
                "20",
            ],
        ]
        .concat(),
    )
    .ends(0);
    let of = |input: f64, cached: f64, out: f64| json!({"in": input, "cached": cached, "cache_write": input, "out": out, "reasoning": out});
    let price = price_of(&folder, "qwen3");
    assert_eq!(price["usd_per_mtok"], of(1.0, 0.0, 0.5));
    assert_eq!(price["batch_usd_per_mtok"], of(0.8, 0.0, 0.4));
    let terms = query(&folder, "SELECT model, origin, terms FROM price");
    let wanted =
        r#"{"price_in":1000000000,"price_out":500000000,"price_cached":0,"batch_discount":20}"#;
    assert_eq!(terms, [["openai/qwen3", "own", wanted]]);
}

#[test]
fn a_price_that_somebody_spoiled_on_record_is_named_and_can_be_taken_away() {
    let folder = Folder::new();
    folder.ok(&[
        "init",
        "--prompt",
        "{{ text }}",
        "--model",
        "simulated/small",
        "--price-in",
        "1",
        "--price-out",
        "2",
    ]);
    for spoiled in
        [r#"{"price_in": -1, "price_out": 1}"#, r#"{"price_in": 0.5, "price_out": 1}"#, "[]"]
    {
        folder.ok(&["price", "simulated/small", "--price-in", "1", "--price-out", "2"]);
        query(&folder, &format!("UPDATE price SET terms = '{spoiled}'"));
        let said = folder.run(&["plan"]).ends(1);
        assert!(
            said.stderr.contains("the price on record for simulated/small cannot be read"),
            "{said:#?}"
        );
        folder.ok(&["price", "simulated/small", "--remove"]);
        folder.ok(&["plan"]);
    }
}
