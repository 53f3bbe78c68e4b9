//! What people and scripts read of batches, from the plan to the answers: whole commands, each in one snapshot.
//!
//! As in `commands`, what differs between two runs of the same thing is taken out. Where several batches
//! are shown, they are made one after the other, so that their ids at the provider have an order.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
mod transcript;

use support::Folder;
use support::batches::runs::{Running, project, run, texts};
use support::batches::{BatchProvider, End, Kind, Script};
use transcript::{settled, transcript};

/// Compares with the snapshot of this name, after taking out what differs between two runs.
macro_rules! shows {
    ($name:literal, $transcript:expr) => {
        settled().bind(|| insta::assert_snapshot!($name, $transcript))
    };
}

#[test]
fn plan_by_which_way_and_for_what() {
    let folder = Folder::new();
    let rows: Vec<String> = (1..=600).map(|row| format!("r{row:03},text {row:03}")).collect();
    folder.write("rows.csv", format!("id,text\n{}\n", rows.join("\n")));
    let prompt = "---\nmax_tokens: 100\n---\nJudge: {{ text }}";
    folder.ok(&["init", "--prompt", prompt, "--model", "simulated/small"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    let mut all = transcript(
        &folder,
        &[
            &["plan", "--examples", "1"],
            &["plan", "--examples", "0", "--json"],
            &["plan", "--examples", "0", "--limit", "20"],
            &["plan", "--examples", "0", "--batch-size", "100", "--batch-tokens", "3000"],
            &["plan", "--examples", "0", "--batch-tokens", "3000", "--oversized", "wait"],
            &["plan", "--examples", "0", "--route", "realtime"],
            &["run", "--dry-run"],
            &["run", "--dry-run", "--no-canary", "--batch-size", "100"],
            &["run", "--dry-run", "--batch-tokens", "3000"],
            &["run", "--dry-run", "--batch-tokens", "3000", "--oversized", "fail"],
            &["run", "--dry-run", "--limit", "1"],
        ],
    );
    let grade = ["prompt", "add", "--text", "Grade {{ text }}", "--name", "grade", "--model"];
    folder.ok(&[&grade[..], &["anthropic/claude-haiku-4-5"]].concat());
    all += &transcript(&folder, &[&["plan", "--examples", "0"], &["run", "--dry-run"]]);
    folder.ok(&[&grade[..], &["gpt-of-nobody"]].concat());
    all += &transcript(&folder, &[&["plan", "--examples", "0"], &["run", "--dry-run"]]);
    shows!("plan_ways", all);
}

#[test]
fn batches_from_their_plan_to_their_answers() {
    let provider = BatchProvider::start(Script::default());
    let folder = project(&provider, &texts(5), &[]);
    provider.hold();
    let mut all = transcript(
        &folder,
        &[
            &["run", "--route", "batch", "--no-wait", "--poll", "20ms"],
            &["plan"],
            &["run", "--dry-run"],
            &["status"],
            &["show", "#2"],
            &["show", "#2", "--reply"],
            &["show", "#2", "--json"],
        ],
    );
    provider.release();
    run(&folder, &[]).ends(0);
    all += &transcript(
        &folder,
        &[
            &["status"],
            &["show", "#2"],
            &["show", "#2", "--reply"],
            &["run", "--dry-run"],
            &["cancel", "--all"],
            &["cancel", "1"],
            &["cancel", "1", "--json"],
            &["cancel", "7"],
            &["cancel"],
        ],
    );
    shows!("batches", all);
}

#[test]
fn cancel_with_no_run_on() {
    let provider = BatchProvider::start(Script {
        end: Box::new(|_| End::Never { done: 1 }),
        ..Script::default()
    });
    let folder = project(&provider, &texts(6), &[]);
    let submit = ["run", "--route", "batch", "--limit", "2", "--no-wait", "--poll", "10m"];
    for _ in 0..3 {
        folder.run(&submit).ends(4);
    }
    let id = folder.status()["batches"][1]["provider_id"].as_str().unwrap().to_owned();
    shows!(
        "cancel",
        transcript(
            &folder,
            &[
                &["cancel", "nope"],
                &["cancel", "1", "nope"],
                &["cancel", "1", "--poll", "20ms"],
                &["cancel", "1", &id, "--poll", "20ms"],
                &["status"],
                &["cancel", "--all", "--poll", "20ms", "--quiet"],
                &["cancel", "--all"],
            ]
        )
    );
}

#[test]
fn cancel_while_a_run_is_on_asks_the_provider() {
    let provider = BatchProvider::start(Script {
        end: Box::new(|_| End::Never { done: 0 }),
        ..Script::default()
    });
    let folder = project(&provider, &texts(2), &[]);
    let running =
        Running::start(&folder, &["run", "--route", "batch", "--poll", "20ms", "--no-canary"]);
    provider.wait_until("it looks at a batch", |provider| provider.count(Kind::Look) > 0);
    provider.hold();
    shows!("cancel_during_a_run", transcript(&folder, &[&["cancel", "1"]]));
    running.interrupt();
    running.end().ends(130);
}

#[test]
fn cancel_at_a_provider_that_nobody_reaches() {
    let provider = BatchProvider::start(Script::default());
    let folder = project(&provider, &texts(2), &[]);
    provider.hold();
    folder.run(&["run", "--route", "batch", "--no-wait", "--poll", "20ms"]).ends(4);
    let port = provider.port();
    drop(provider);
    let said = folder.run(&["cancel", "--all", "--poll", "1ms"]).ends(1);
    assert!(said.stderr.contains("error: nobody answers at the server's address"), "{said:#?}");
    assert!(said.stderr.contains("`overnight cancel` tries again"), "{said:#?}");
    assert!(!said.stderr.contains("run` goes on from here"), "{said:#?} {port}");
}

#[test]
fn a_project_of_the_first_format_that_may_not_be_written_is_read_as_it_stands() {
    let folder = Folder::new();
    let old = std::fs::read("fixtures/projects/format-1.db").unwrap();
    folder.write("overnight.db", &old);
    let file = folder.file("overnight.db");
    let mut permissions = std::fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&file, permissions).unwrap();
    for command in [&["status"][..], &["status", "--json"], &["plan"], &["show", "#1"]] {
        folder.ok(command);
    }
    assert_eq!(std::fs::read(&file).unwrap(), old);
}
