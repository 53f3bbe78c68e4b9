//! A project in which everything has happened that a record can hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Act, Folder, Provider, Request};

/// Makes it: by calls and in batches, with cut replies, tries again, shared replies, doubts, changed and removed
/// rows, a server without schemas, lines that settle nothing, and a person who asks anew.
pub(crate) fn eventful() -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "test").env("OVERNIGHT_SIMULATE", "");
    by_calls(&mut folder);
    in_batches(&mut folder);
    edited(&mut folder);
    in_words_and_doubt(&folder);
    folder
}

fn simulate(folder: &mut Folder, options: &str) {
    folder.env("OVERNIGHT_SIMULATE", options);
}

fn table(changed: &[usize]) -> String {
    let row = |row: usize| {
        let review = if row > 20 { row - 20 } else { row };
        let note = if changed.contains(&row) { "changed" } else { "as it was" };
        let review = if changed.contains(&row) {
            format!("another review {review}")
        } else {
            format!("review {review}")
        };
        format!("k{row:02},{review},{note}\n")
    };
    (1..=24).map(row).fold("id,review,note\n".to_owned(), |table, row| table + &row)
}

fn by_calls(folder: &mut Folder) {
    folder.write("rows.csv", table(&[]));
    folder.write("main.prompt", "---\nmax_tokens: 40\ntemperature: 0\n---\nsystem:\nBe short.\n\nuser:\nSay: {{ review }}\n");
    folder.ok(&["init", "--model", "simulated/small", "--prompt", "main.prompt"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    simulate(folder, "--seed 3 --faults 429=every:5,500=every:7,length=every:6,context=every:17");
    folder.run(&["run", "--route", "realtime"]);
}

fn in_batches(folder: &mut Folder) {
    folder.ok(&[
        "prompt",
        "add",
        "--text",
        "Is it good? {{ review }}",
        "--name",
        "label",
        "--choices",
        "good,bad",
        "--model",
        "simulated/small",
    ]);
    let faults = "line_missing=every:5,line_500=every:6,line_doubled=every:4,line_garbled=every:9,line_unknown=every:7";
    simulate(folder, &format!("--seed 5 --faults {faults}"));
    folder.run(&["run", "--route", "batch", "--no-canary", "--poll", "20ms"]);
    simulate(folder, "--seed 6 --faults batch_expired=first:1");
    folder
        .write("more.csv", "id,review,note\nm1,more 1,x\nm2,more 2,y\n")
        .ok(&["add", "more.csv", "--key", "id"]);
    folder.run(&["run", "--route", "batch", "--no-canary", "--poll", "20ms"]);
}

fn edited(folder: &mut Folder) {
    simulate(folder, "--seed 9");
    folder.ok(&["remove", "k03", "k05", "k06"]);
    folder.write("rows2.csv", table(&[4, 7])).ok(&["add", "rows2.csv", "--key", "id"]);
    folder.ok(&["remove", "k05"]);
    // The same line three times, and one that has not what the prompts name.
    folder.write("lines.jsonl", "{\"review\":\"again\",\"note\":1.50}\n{\"review\":\"again\",\"note\":1.50}\n{\"review\":\"again\",\"note\":1.50}\n{\"note\":\"no review\"}\n");
    folder.ok(&["add", "lines.jsonl"]);
    folder.run(&["run", "--route", "realtime"]);
    folder.write("main.prompt", "---\nmax_tokens: 40\n---\nSay it: {{ review }}\n");
    folder.ok(&["prompt", "add", "main.prompt", "--name", "main", "--model", "simulated/small"]);
    folder.run(&["run", "--route", "realtime"]);
    folder.ok(&["retry", "--rows", "k01"]);
    folder.run(&["run", "--route", "realtime"]);
    folder.ok(&["retry", "--rows", "k02", "--max-tokens", "77"]);
}

/// A server that takes no schema, and two crashes: in the first two calls hang, in the second one of them again.
fn in_words_and_doubt(folder: &Folder) {
    let model = ["--model", "gpt-4o-mini", "--choices", "one,two"];
    folder.ok(&[
        &["prompt", "add", "--text", "Which? {{ review }}", "--name", "which"],
        &model[..],
    ]
    .concat());
    let hung = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hung);
    let provider = Provider::start(move |request| reply(request, &count));
    let base_url = provider.base_url();
    let run = ["run", "--route", "realtime", "--base-url", &base_url, "--concurrency", "8"];
    for hanging in [2, 3] {
        let mut running = folder.start(&run);
        for _ in 0..6000 {
            if hung.load(Ordering::SeqCst) >= hanging {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        running.kill().unwrap();
        let said = running.wait_with_output().unwrap();
        assert_eq!(hung.load(Ordering::SeqCst), hanging, "{said:?}");
    }
    folder.run(&[&run[..], &["--in-doubt", "hold"]].concat());
}

fn reply(request: &Request, hung: &AtomicUsize) -> Act {
    if request.json().get("response_format").is_some() {
        let words = "response_format is not supported by this server";
        return Act::error(400, "invalid_request_error", words);
    }
    let hangs = match request.text().lines().next() {
        Some("Which? review 9") => request.seen == 0,
        Some("Which? review 8") => request.seen < 2,
        _ => false,
    };
    if hangs {
        hung.fetch_add(1, Ordering::SeqCst);
        return Act::Hang;
    }
    Act::says("one")
}
