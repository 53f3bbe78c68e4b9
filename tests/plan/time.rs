//! How long it would take, and whether that is soon enough.

use super::support::Folder;
use super::{lines, number, of_prompt, plan, project};

fn rows(number: usize) -> Folder {
    let rows = lines((1..=number).map(|row| format!("r{row},review {row}\n")));
    let prompt = "---\nmodel: simulated/small\nmax_tokens: 40\n---\nJudge: {{ text }}";
    project(&format!("id,text\n{rows}"), prompt, &[])
}

#[test]
fn nobody_knows_until_a_limit_or_an_answer_is_there() {
    let folder = rows(100);
    let time = of_prompt(&folder, &[])["time"].clone();
    assert!(time["realtime"].is_null() && time["chosen"].is_null(), "{time}");
    assert_eq!(time["batch_window_s"], 86_400);
    let page = folder.ok(&["plan", "--examples", "0"]).stdout;
    assert!(
        page.contains(
            "  time      unknown by calls until some are answered: `overnight run --sample 20`"
        ),
        "{page}"
    );
    let time = of_prompt(&folder, &["--rpm", "50"])["time"].clone();
    assert_eq!(time["realtime"], serde_json::json!({"at_least_s": 120.0, "at_most_s": 120.0}));
    folder.ok(&["run", "--limit", "10"]);
    let time = of_prompt(&folder, &[])["time"].clone();
    assert!(number(&time["realtime"]["at_most_s"]) >= number(&time["realtime"]["at_least_s"]));
    let (fast, slow) = (["--concurrency", "90"], ["--concurrency", "1"]);
    let of = |more: &[&str]| number(&of_prompt(&folder, more)["time"]["realtime"]["at_most_s"]);
    let call_ms = number(&time["call_ms"]);
    assert!(call_ms == 0.0 || of(&slow) > of(&fast));
}

#[test]
fn what_the_provider_told_of_its_limits_counts_and_a_person_may_ask_for_less() {
    let folder = rows(120);
    let record = rusqlite::Connection::open(folder.file("overnight.db")).unwrap();
    let told = "INSERT INTO rate_limit VALUES ('embedded', 'simulated/small', 60, 100000, 1)";
    record.execute(told, []).unwrap();
    drop(record);
    let time = of_prompt(&folder, &[])["time"].clone();
    assert_eq!(
        (&time["requests_per_minute"], &time["tokens_per_minute"]),
        (&60.into(), &100_000.into())
    );
    assert_eq!(time["realtime"]["at_most_s"], 120.0);
    let page = folder.ok(&["plan", "--examples", "0"]).stdout;
    assert!(page.contains("about 2 min 0 s by calls (60 requests a minute, as the provider told; 100,000 tokens a minute, as the provider told)"), "{page}");
    let asked = of_prompt(&folder, &["--rpm", "30", "--tpm", "1000000"])["time"].clone();
    assert_eq!(
        (&asked["requests_per_minute"], &asked["tokens_per_minute"]),
        (&30.into(), &100_000.into())
    );
    assert_eq!(asked["realtime"]["at_most_s"], 240.0);
    // Each request may use its input and 40 more.
    let prompt = of_prompt(&folder, &["--tpm", "120"]);
    let each = number(&prompt["tokens"]["input"]) / 120.0 + 40.0;
    let expected = 120.0 * each / 120.0 * 60.0;
    assert!(
        (number(&prompt["time"]["realtime"]["at_most_s"]) - expected).abs() < 0.01,
        "{expected} {prompt}"
    );
}

#[test]
fn a_time_holds_or_not_by_calls() {
    let folder = rows(100);
    let by = |more: &[&str]| plan(&folder, more)["by"].clone();
    assert!(by(&[]).is_null());
    assert!(by(&["--by", "1h"])["holds"].is_null(), "nobody knows");
    assert_eq!(by(&["--by", "1h", "--rpm", "50"])["holds"], true);
    let late = by(&["--by", "1m", "--rpm", "50"]);
    assert_eq!((&late["holds"], &late["takes"]["at_most_s"]), (&false.into(), &120.0.into()));
    let page = folder.ok(&["plan", "--by", "1m", "--rpm", "50", "--examples", "0"]).stdout;
    assert!(page.contains(": this does not hold, it takes about 2 min 0 s"), "{page}");
    folder.run(&["plan", "--by", "yesterday"]).ends(2);
}

#[test]
fn what_batches_leave_goes_by_calls_and_needs_its_time() {
    let folder = rows(600);
    let typed = ["--route", "batch", "--rpm", "60", "--by"];
    let by = |time: &str| plan(&folder, &[&typed[..], &[time]].concat())["by"].clone();
    // Longer than the provider grants itself.
    assert_eq!(by("25h")["holds"], true);
    let soon = by("1h");
    assert!(soon["holds"].is_null(), "{soon}");
    assert_eq!(soon["calls_after"]["at_most_s"], 600.0);
    let minutes = |key: &str| soon[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let of = |a: &str, b: &str| (minutes(b) - minutes(a)).total(jiff::Unit::Second).unwrap();
    assert_eq!((of("at", "latest"), of("give_instead", "at")), (600.0, 600.0));
    assert!(by("5m")["give_instead"].is_null(), "that would have been before now");
    let page = folder.ok(&[&["plan", "--examples", "0"], &typed[..], &["1h"]].concat()).stdout;
    assert!(
        page.contains("goes by calls; for all of it these would take about 10 min 0 s more"),
        "{page}"
    );

    // Once a batch has ended, the next ones are taken to be like it.
    folder.ok(&["run", "--route", "batch", "--limit", "50", "--poll", "50ms"]);
    let after = plan(&folder, &[&typed[..], &["1h"]].concat());
    assert_eq!(after["by"]["holds"], true, "{after:#}");
    assert!(after["prompts"][0]["time"]["batch"]["at_most_s"].is_number());
}
