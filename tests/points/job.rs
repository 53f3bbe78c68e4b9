//! The mixed job: in a few rows and one run, all that a run can come to do.

use std::path::PathBuf;
use std::sync::OnceLock;

use overnight::simulate::{Ledger, Settings};
use tempfile::TempDir;

use crate::books::{holds_in_the_end, lines, number, replies_were_charged};
use crate::site::{PROJECT, Site, Snapshot, folder, settings};

/// The run of the job.
pub(crate) const RUN: &[&str] =
    &["run", "--route", "batch", "--batch-size", "4", "--poll", "10ms", "--concurrency", "4"];

/// Labels, asked for by a schema, of a model whose queue takes few tokens.
const LABEL: &str = "---
model: openai/label
max_tokens: 8
max_tokens_limit: 512
choices: [good, bad, mixed]
---
system:
You label reviews.

user:
{{ review }}
";

/// Free text of another model.
const SAY: &str = "---
model: openai/say
max_tokens: 12
max_tokens_limit: 512
---
Say in a word or two: {{ review }}
";

/// What goes wrong: drawn by the body and how often it came, so that it does not depend on the order of things. What is
/// answered follows from the body alone, and so does whether the limit cuts it.
const FAULTS: &str =
    "line_500=0.15,line_missing=0.15,500=0.3,badjson=0.2,batch_expired=first:1";

/// The reviews: one of them twice, and some so long that the provider's queue never takes them.
fn table() -> String {
    let long = "아주 긴 글입니다, and it goes on and on. ".repeat(40);
    let reviews = [
        "정말 좋아요".to_owned(),
        "I would not buy it again".to_owned(),
        "\"Good\", he said".to_owned(),
        "정말 좋아요".to_owned(),
        "아이가 좋아하네요".to_owned(),
        format!("{long} 하나"),
        format!("{long} 둘"),
        format!("{long} 셋"),
    ];
    let mut text = String::from("id,review\n");
    for (row, review) in reviews.iter().enumerate() {
        text.push_str(&format!("k{},\"{}\"\n", row + 1, review.replace('"', "\"\"")));
    }
    text
}

/// The provider of the job.
pub(crate) fn provider() -> Settings {
    let mut settings = settings();
    settings.seed = std::env::var("SEED").map_or(3, |s| s.parse().unwrap());
    settings.faults = FAULTS.parse().unwrap();
    settings.enqueued_tokens = Some(500);
    settings
}

/// The job before its run, made once, to be copied.
pub(crate) fn fresh() -> PathBuf {
    static FRESH: OnceLock<TempDir> = OnceLock::new();
    let made = FRESH.get_or_init(|| {
        let site = Site::new(settings(), &[]);
        site.write("label.prompt", LABEL);
        site.write("say.prompt", SAY);
        site.write("rows.csv", &table());
        site.ok(&["init", "--prompt", "label.prompt", "--max-attempts", "30"]);
        site.ok(&["add", "rows.csv", "--key", "id"]);
        site.ok(&["prompt", "add", "say.prompt"]);
        let dir = folder();
        std::fs::copy(site.path(PROJECT), dir.path().join(PROJECT)).unwrap();
        dir
    });
    made.path().join(PROJECT)
}

/// A copy of the job at a provider of its own.
pub(crate) fn site() -> Site {
    Site::new(provider(), &[fresh()])
}

/// The table as it comes back.
pub(crate) fn exported(site: &Site) -> String {
    site.ok(&["export", "-"]).stdout
}

/// The run that nothing happens to: what it exports, and the points that it passes.
pub(crate) struct Unbroken {
    pub(crate) table: String,
    pub(crate) points: Vec<String>,
    /// Requests that were answered, whoever shares them.
    pub(crate) answered: u64,
}

/// Carries the job out without a cut, once, and demands that all of what it is for occurs.
pub(crate) fn unbroken() -> &'static Unbroken {
    static UNBROKEN: OnceLock<Unbroken> = OnceLock::new();
    UNBROKEN.get_or_init(|| {
        let site = site();
        let (said, points) = site.run_to(RUN, None);
        println!("took {} points", points.len()); if std::env::var("LIST").is_ok() { println!("{}", points.join("\n")); }
        said.ends(0, "unbroken");
        let (snapshot, ledger) = (site.snapshot(), site.ledger());
        holds_in_the_end(&snapshot, &ledger, "unbroken");
        replies_were_charged(&snapshot, &ledger, "unbroken");
        is_mixed(&snapshot, &ledger);
        has_all_steps(&points);
        let answered = number(&snapshot.conn(), "SELECT count(*) FROM answers WHERE state = 'answered'");
        Unbroken { table: exported(&site), points, answered }
    })
}

/// Demands that the job is as mixed as it claims to be.
fn is_mixed(snapshot: &Snapshot, ledger: &Ledger) {
    let conn = snapshot.conn();
    let some = |what: &str, sql: &str| {
        let all = lines(&conn, "SELECT request_id || ' ' || number || ' ' || route || ' ' || coalesce(batch_id, '') || ' ' || outcome || ' ' || coalesce(error_class, '') || ' ' || coalesce(max_tokens, '') FROM attempt");
        assert!(number(&conn, sql) > 0, "{what}: {sql}\n{all:#?} {:#?}", ledger.totals);
    };
    for route in ["realtime", "batch"] {
        for outcome in ["answered", "truncated", "failed"] {
            let sql = "SELECT count(*) FROM attempt WHERE route = '{route}' AND outcome = '{outcome}'";
            some("a route and an outcome", &sql.replace("{route}", route).replace("{outcome}", outcome));
        }
    }
    some("a body of its own for a raised limit", "SELECT count(*) FROM attempt WHERE body IS NOT NULL AND outcome = 'answered'");
    some("a shared reply", "SELECT count(*) FROM request JOIN attempt ON attempt.id = attempt_id WHERE request_id <> request.id");
    some("a dictionary for bodies", "SELECT count(*) FROM dictionary WHERE kind = 'body'");
    some("a dictionary for replies", "SELECT count(*) FROM dictionary WHERE kind = 'reply'");
    some("a batch that the queue did not take", "SELECT count(*) FROM batch WHERE error LIKE 'token_limit_exceeded%'");
    some("what it taught", "SELECT count(*) FROM queue_limit");
    some("a batch that expired", "SELECT count(*) FROM batch WHERE ended = 'expired'");
    some("a line that is missing", "SELECT count(*) FROM attempt WHERE error_class = 'missing_from_batch'");
    some("two models in batches", "SELECT count(DISTINCT model) = 2 FROM batch");
    for fault in ["line_500", "line_missing", "500", "badjson", "batch_expired"] {
        assert!(ledger.totals.faults.contains_key(fault), "{fault} strikes: {:?}", ledger.totals.faults);
    }
}

/// Demands that the job passes every kind of point, of every kind of call that a first run makes.
fn has_all_steps(points: &[String]) {
    for call in ["POST /v1/chat/completions", "POST /v1/files", "POST /v1/batches", "GET /v1/batches/"] {
        for point in ["before_send", "reply_begun", "reply_whole"] {
            let step = format!("{point} {call}");
            assert!(points.iter().any(|passed| passed.starts_with(&step)), "{step} is not passed");
        }
    }
    for step in ["before_commit", "after_commit", "part_sent POST", "part_came GET /v1/files/"] {
        assert!(points.iter().any(|passed| passed.starts_with(step)), "{step} is not passed");
    }
}
