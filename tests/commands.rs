//! Whole commands as a person sees them: exit code, stdout and stderr of each, together in one snapshot.
//!
//! Times, durations and whatever else differs between two runs of the same thing are replaced by words of
//! the same length or at the end of a line, so that columns stay aligned. `just accept` takes the
//! snapshots as they are now; read the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;
mod transcript;

use support::{Act, Folder, Provider, Simulator};
use transcript::{settled, told, transcript};

/// The table of most of these tests.
const REVIEWS: &str = "id,review\nr1,Lovely\nr2,\"그저 그래요, 별로\"\nr3,Broke at once\n";

/// Compares with the snapshot of this name, after taking out what differs between two runs.
macro_rules! shows {
    ($name:literal, $transcript:expr) => {
        settled().bind(|| insta::assert_snapshot!($name, $transcript))
    };
}

/// A project with three rows against a scripted provider that finds everything good but one row.
fn scripted() -> (Provider, Folder) {
    let provider = Provider::start(|request| match request.text().contains("Broke") {
        true => Act::error(400, "invalid_value", "this text is not for us"),
        false => Act::says("good"),
    });
    let folder = Folder::new();
    folder.write("reviews.csv", REVIEWS);
    let (url, prompt) = (provider.base_url(), "Judge: {{ review }}");
    folder.ok(&["init", "--prompt", prompt, "--model", "gpt-4o-mini", "--base-url", &url]);
    folder.ok(&["add", "reviews.csv", "--key", "id"]);
    (provider, folder)
}

/// A project with three rows that has not been run.
fn simulated() -> Folder {
    let folder = Folder::new();
    folder.write("reviews.csv", REVIEWS);
    folder.ok(&["init", "--prompt", "Judge: {{ review }}", "--model", "simulated/small"]);
    folder.ok(&["add", "reviews.csv", "--key", "id"]);
    folder
}

#[test]
fn every_command_has_help_with_examples() {
    let folder = Folder::new();
    let commands: [&[&str]; 24] = [
        &[],
        &["init"],
        &["add"],
        &["remove"],
        &["prompt"],
        &["prompt", "add"],
        &["prompt", "list"],
        &["prompt", "show"],
        &["prompt", "diff"],
        &["plan"],
        &["price"],
        &["rehearse"],
        &["run"],
        &["status"],
        &["cancel"],
        &["export"],
        &["show"],
        &["audit"],
        &["backup"],
        &["retry"],
        &["simulate"],
        &["demo"],
        &["completions"],
        &["man"],
    ];
    for command in commands {
        let args = [command, &["--help"]].concat();
        let help = transcript(&folder, &[&args]);
        assert!(help.contains("Examples:"), "{help}");
        let name = [&["help"], command].concat().join("_");
        settled().bind(|| insta::assert_snapshot!(name, help));
    }
}

#[test]
fn init() {
    let folder = Folder::new();
    folder.write("label.prompt", "---\nmodel: simulated/small\n---\nLabel {{ text }}\n");
    shows!(
        "init",
        transcript(
            &folder,
            &[
                &["init"],
                &["-p", "a.db", "init", "--prompt", "label.prompt"],
                &["-p", "b c.db", "init", "--prompt", "Name a color", "--model", "gpt-5-mini"],
                &["-p", "c.db", "init", "--prompt", "label.prompt", "--json"],
                &["-p", "d.db", "init", "--json"],
                &["-p", "e.db", "init", "--quiet"],
            ]
        )
    );
}

#[test]
fn add() {
    let folder = Folder::new();
    folder
        .write("reviews.csv", REVIEWS)
        .write("more.jsonl", "{\"id\":\"r9\",\"review\":\"So so\"}\n");
    folder.ok(&["init"]);
    let mut all = transcript(&folder, &[&["add", "reviews.csv", "--key", "id"]]);
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "{{ review }}",
        "--name",
        "main",
        "--model",
        "simulated/small",
    ]);
    all += &transcript(
        &folder,
        &[
            &["add", "reviews.csv", "more.jsonl", "--key", "id"],
            &["add", "more.jsonl", "--key", "id", "--json"],
        ],
    );
    folder.write("reviews.csv", "id,review\nr1,Lovely\nr2,changed\nr4,new\n");
    folder.ok(&["remove", "r1"]);
    all += &transcript(&folder, &[&["add", "reviews.csv", "--key", "id"]]);
    let piped = folder.run_with_input(&["add", "-"], b"id\treview\nx\tpiped\n");
    shows!("add", all + &told(&["add", "-"], &piped));
}

#[test]
fn remove() {
    let (_provider, folder) = scripted();
    folder.run(&["run"]).ends(3);
    shows!(
        "remove",
        transcript(
            &folder,
            &[
                &["remove", "r3"],
                &["remove", "#1", "--json"],
                &["remove", "reviews.csv"],
                &["remove", "r1"]
            ]
        )
    );
}

#[test]
fn prompts() {
    let folder = simulated();
    folder.write(
        "tone.prompt",
        "---\nmodel: simulated/small\nchoices: [warm, cold]\n---\nsystem:\nYou judge tone.\n\nuser:\n{{ review }}\n",
    );
    let mut all = transcript(
        &folder,
        &[
            &["prompt", "add", "tone.prompt"],
            &["prompt", "add", "tone.prompt"],
            &["prompt", "add", "tone.prompt", "--name", "other", "--json"],
            &[
                "prompt",
                "add",
                "--text",
                "Grade: {{ review }}",
                "--name",
                "main",
                "--model",
                "gpt-5-mini",
            ],
            &["prompt", "list"],
            &["prompt", "show", "tone"],
            &["prompt", "show", "main@1"],
            &["prompt", "show"],
            &["prompt", "show", "main", "--json"],
            &["prompt", "diff", "main"],
        ],
    );
    folder.write(
        "tone.prompt",
        "---\nmodel: simulated/small\nchoices: [warm, cold, none]\n---\nsystem:\nYou judge tone.\n\nuser:\n{{ review }}\n",
    );
    all += &transcript(
        &folder,
        &[
            &["prompt", "add", "tone.prompt"],
            &["prompt", "diff", "tone"],
            &["prompt", "diff", "tone@1", "other"],
            &["prompt", "list", "--json"],
        ],
    );
    shows!("prompts", all);
}

#[test]
fn plan() {
    let (_provider, folder) = scripted();
    let mut all =
        transcript(&folder, &[&["plan"], &["plan", "--examples", "0"], &["plan", "--json"]]);
    folder.run(&["run"]).ends(3);
    all += &transcript(&folder, &[&["plan"]]);
    shows!("plan", all);
}

#[test]
fn run_of_rows_that_are_answered() {
    let folder = simulated();
    shows!(
        "run",
        transcript(
            &folder,
            &[
                &["run", "--dry-run"],
                &["run", "--limit", "1"],
                &["run"],
                &["run"],
                &["run", "--json"]
            ]
        )
    );
}

#[test]
fn run_of_rows_that_fail_and_what_is_said_of_them() {
    let (_provider, folder) = scripted();
    shows!(
        "run_with_failures",
        transcript(
            &folder,
            &[
                &["run", "--dry-run", "--json"],
                &["run", "--json", "--concurrency", "1"],
                &["run"],
                &["status"],
                &["retry", "--failed"],
                &["run"]
            ]
        )
    );
}

#[test]
fn run_against_a_provider_that_refuses_all() {
    for (name, act) in [
        ("run_unauthorized", Act::error(401, "invalid_api_key", "Incorrect API key provided")),
        ("run_no_quota", Act::error(429, "insufficient_quota", "You exceeded your current quota")),
        ("run_no_model", Act::error(404, "model_not_found", "The model `x` does not exist")),
    ] {
        let provider = Provider::start(move |_| act.clone());
        let folder = Folder::new();
        folder.write("rows.csv", "text\na\n");
        let url = provider.base_url();
        folder.ok(&[
            "init",
            "--prompt",
            "{{ text }}",
            "--model",
            "gpt-4o-mini",
            "--base-url",
            &url,
        ]);
        folder.ok(&["add", "rows.csv"]);
        let all = transcript(&folder, &[&["run"], &["status"]]);
        settled().bind(|| insta::assert_snapshot!(name, all));
    }
}

#[test]
fn status() {
    let folder = Folder::new();
    folder.ok(&["init"]);
    let mut all = transcript(&folder, &[&["status"]]);
    folder.write("reviews.csv", REVIEWS);
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "{{ review }}",
        "--name",
        "main",
        "--model",
        "simulated/small",
    ]);
    folder.ok(&["add", "reviews.csv"]);
    all += &transcript(&folder, &[&["status"]]);
    folder.ok(&["run"]);
    all += &transcript(&folder, &[&["status"], &["status", "--json"], &["-q", "status"]]);
    shows!("status", all);
}

#[test]
fn export() {
    let (_provider, folder) = scripted();
    let mut all = transcript(&folder, &[&["export", "early.csv"]]);
    folder.run(&["run"]).ends(3);
    all += &transcript(
        &folder,
        &[
            &["export"],
            &["export", "-", "--format", "jsonl"],
            &["export", "--details", "--only", "answered"],
            &["export", "--details", "--only", "failed", "--format", "jsonl"],
            &["export", "answers.csv"],
            &["export", "answers.jsonl", "--json"],
            &["export", "--only", "unanswered", "-q"],
            &["export", "--long"],
        ],
    );
    assert_eq!(
        folder.read("answers.csv"),
        "id,review,answer,state\nr1,Lovely,good,answered\nr2,\"그저 그래요, 별로\",good,answered\n\
         r3,Broke at once,,failed\n"
    );
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "Grade {{ review }}",
        "--name",
        "grade",
        "--model",
        "gpt-4o",
    ]);
    all += &transcript(
        &folder,
        &[
            &["export"],
            &["export", "--prompt", "grade"],
            &["export", "--prompt", "main@1", "--prompt", "grade"],
        ],
    );
    shows!("export", all);
}

#[test]
fn export_of_a_table_with_columns_of_our_names() {
    let folder = Folder::new();
    folder.write("own.csv", "answer,state,text\n1,2,3\n");
    folder.ok(&["init", "--prompt", "{{ text }}", "--model", "simulated/small"]);
    folder.ok(&["add", "own.csv"]);
    shows!(
        "export_collision",
        transcript(
            &folder,
            &[&["export"], &["export", "out.csv", "--json"], &["export", "--details", "-q"]]
        )
    );
}

#[test]
fn show() {
    let (_provider, folder) = scripted();
    let mut all = transcript(&folder, &[&["show", "r1"]]);
    folder.run(&["run"]).ends(3);
    all += &transcript(
        &folder,
        &[
            &["show", "r1"],
            &["show", "#3"],
            &["show", "r1", "--request"],
            &["show", "r1", "--reply"],
            &["show", "r3", "--reply"],
            &["show", "r1", "--json"],
        ],
    );
    shows!("show", all);
}

#[test]
fn retry() {
    let (_provider, folder) = scripted();
    let mut all = transcript(&folder, &[&["retry", "--failed"]]);
    folder.run(&["run"]).ends(3);
    all += &transcript(
        &folder,
        &[
            &["retry", "--failed"],
            &["retry", "--class", "invalid_request", "--json"],
            &["retry", "--rows", "r1", "#2"],
            &["retry", "--truncated", "--max-tokens", "100"],
        ],
    );
    shows!("retry", all);
}

#[test]
fn a_cut_reply_is_told_and_retried_with_more_room() {
    let provider = Provider::start(|_| Act::finishes("half an ans", "length"));
    let folder = Folder::new();
    folder.write("rows.csv", "text\na\n");
    let url = provider.base_url();
    let prompt = "---\nmax_tokens: 5\nmax_tokens_limit: 5\n---\n{{ text }}";
    folder.ok(&["init", "--prompt", prompt, "--model", "gpt-4o-mini", "--base-url", &url]);
    folder.ok(&["add", "rows.csv"]);
    shows!(
        "truncated",
        transcript(
            &folder,
            &[&["run"], &["status"], &["export"], &["retry", "--truncated"], &["plan"]]
        )
    );
}

#[test]
fn simulate_tells_where_it_is_and_what_it_charged() {
    let folder = Folder::new();
    let simulator = Simulator::start(&folder, &[]);
    folder.write("reviews.csv", REVIEWS);
    let url = simulator.base_url();
    folder.ok(&[
        "init",
        "--prompt",
        "{{ review }}",
        "--model",
        "simulated/small",
        "--base-url",
        url,
    ]);
    folder.ok(&["add", "reviews.csv"]);
    shows!("run_against_simulator", transcript(&folder, &[&["run"], &["export"], &["plan"]]));
}

#[test]
fn demo() {
    let said =
        transcript(&Folder::new(), &[&["demo", "try it"], &["demo", "-q", "--json", "again"]]);
    shows!("demo", batch_by_batch(&said));
}

/// Sorts lines on batches that stand together: which of two batches is looked at first is left to chance, and
/// when the first request finds no room, too.
fn batch_by_batch(said: &str) -> String {
    fn number(line: &&str) -> Option<String> {
        if line.starts_with("not all requests to ") {
            return Some(String::new());
        }
        let rest = line.strip_prefix("batch ")?;
        Some(rest.chars().take_while(char::is_ascii_digit).collect())
    }
    let lines: Vec<&str> = said.split_inclusive('\n').collect();
    let together = lines.chunk_by(|one, other| number(one).is_some() && number(other).is_some());
    together
        .flat_map(|lines| {
            let mut lines = lines.to_vec();
            lines.sort_by_key(number);
            lines
        })
        .collect()
}

#[test]
fn completions_and_man_pages_begin_as_they_should() {
    let folder = Folder::new();
    for (shell, start) in [
        ("bash", "_overnight() {"),
        ("zsh", "#compdef overnight"),
        ("fish", "# Print an optspec"),
        ("elvish", "\nuse builtin;"),
        ("powershell", "\nusing namespace System.Management.Automation"),
    ] {
        let said = folder.ok(&["completions", shell]);
        assert!(said.stdout.starts_with(start), "{shell}: {}", &said.stdout[..200]);
        assert!(said.stdout.contains("base-url"), "{shell} knows the options");
    }
    for (args, title) in
        [(&["man"][..], ".TH overnight 1"), (&["man", "run"], ".TH overnight-run 1")]
    {
        let said = folder.ok(args);
        assert!(said.stdout.lines().any(|line| line.starts_with(title)), "{}", &said.stdout[..200]);
    }
}

#[test]
fn typing_mistakes_are_answered_with_what_to_type() {
    let folder = simulated();
    shows!(
        "typing_mistakes",
        transcript(
            &folder,
            &[
                &["foo"],
                &["exprot"],
                &["add"],
                &["add", "reveiws.csv"],
                &["show", "5"],
                &["show", "1"],
                &["show", "R1"],
                &["show", "#9"],
                &["show"],
                &["remove", "reviews"],
                &["export", "answers.csv", "--prompt", "nope"],
                &["export", "answers.csv", "--prompt", "mian"],
                &["export", "--only", "done"],
                &["prompt", "show", "main@9"],
                &["prompt", "diff", "main"],
                &["retry"],
                &["retry", "--class", "rate-limit"],
                &["retry", "--class", "nope"],
                &["retry", "--rows", "r8"],
                &["run", "--rpm", "0"],
                &["run", "--concurrency", "x"],
                &["run", "--timeout", "soon"],
                &["run", "--timeout", "0"],
                &["run", "--limit", "-1"],
                &["run", "--route", "bus"],
                &["plan", "--examples", "-2"],
                &["init", "--max-attempts", "0"],
                &["completions", "tcsh"],
                &["man", "fly"],
            ]
        )
    );
}
