//! The mixed job: in a few rows and one run, all that a run can come to do.

use std::path::PathBuf;
use std::sync::OnceLock;

use overnight::simulate::{Ledger, Settings};
use tempfile::TempDir;

use crate::books::{holds_in_the_end, number, replies_were_charged};
use crate::site::{PROJECT, Site, Snapshot, folder, settings};

/// The run of the job. Its looks are that far apart because so are the listings that prove a creation absent: a call
/// of a process that has died must have reached the provider by then, on a busy machine too.
pub(crate) const RUN: &[&str] =
    &["run", "--route", "batch", "--batch-size", "4", "--poll", "150ms", "--concurrency", "4"];

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
const FAULTS: &str = "line_500=0.15,line_missing=0.15,500=0.3,badjson=0.2,batch_expired=first:1";

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
    settings.seed = 38;
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
    /// A folder with its project.
    pub(crate) file: TempDir,
}

/// Carries the job out without a cut, once, and demands that all of what it is for occurs.
///
/// Two things depend on which of two models comes first, so it has a few tries.
pub(crate) fn unbroken() -> &'static Unbroken {
    static UNBROKEN: OnceLock<Unbroken> = OnceLock::new();
    UNBROKEN.get_or_init(|| {
        let mut wanting = None;
        for _ in 0..20 {
            let site = site();
            let (said, points) = site.run_to(RUN, None);
            said.ends(0, "unbroken");
            let (snapshot, ledger) = (site.snapshot(), site.ledger());
            holds_in_the_end(&snapshot, &ledger, "unbroken");
            replies_were_charged(&snapshot, &ledger, "unbroken");
            wanting = wants(&snapshot, &ledger);
            if wanting.is_none() {
                has_all_steps(&points);
                let sql = "SELECT count(*) FROM answers WHERE state = 'answered'";
                let answered = number(&snapshot.conn(), sql);
                let file = kept(&snapshot);
                return Unbroken { table: exported(&site), points, answered, file };
            }
        }
        panic!("the job is not as mixed as it claims to be: {wanting:?}");
    })
}

fn kept(snapshot: &Snapshot) -> TempDir {
    let dir = folder();
    // Opened and closed before, so that all of it stands in the one file.
    std::fs::copy(snapshot.path(), dir.path().join(PROJECT)).unwrap();
    dir
}

/// What has to occur in the job, with a question that is answered with more than nothing where it does.
const MIXED: [(&str, &str); 15] = [
    ("an answered call", "FROM attempt WHERE route = 'realtime' AND outcome = 'answered'"),
    ("a truncated call", "FROM attempt WHERE route = 'realtime' AND outcome = 'truncated'"),
    ("a failed call", "FROM attempt WHERE route = 'realtime' AND outcome = 'failed'"),
    ("an answered line", "FROM attempt WHERE route = 'batch' AND outcome = 'answered'"),
    ("a truncated line", "FROM attempt WHERE route = 'batch' AND outcome = 'truncated'"),
    ("a failed line", "FROM attempt WHERE route = 'batch' AND error_class = 'server_error'"),
    ("a missing line", "FROM attempt WHERE error_class = 'missing_from_batch'"),
    ("a raised limit", "FROM attempt WHERE body IS NOT NULL AND outcome = 'answered'"),
    (
        "a shared reply",
        "FROM request JOIN attempt ON attempt.id = attempt_id WHERE request_id <> request.id",
    ),
    ("a dictionary for bodies", "FROM dictionary WHERE kind = 'body'"),
    ("a dictionary for replies", "FROM dictionary WHERE kind = 'reply'"),
    ("a batch too big for the queue", "FROM batch WHERE error LIKE 'token_limit_exceeded%'"),
    ("what that taught", "FROM queue_limit"),
    ("a batch that expired", "FROM batch WHERE ended = 'expired'"),
    ("two models", "FROM batch WHERE model <> (SELECT min(model) FROM batch)"),
];

/// Says what of it has not occurred.
fn wants(snapshot: &Snapshot, ledger: &Ledger) -> Option<String> {
    let conn = snapshot.conn();
    let is_absent = |sql: &str| number(&conn, &format!("SELECT count(*) {sql}")) == 0;
    let absent = MIXED.iter().find(|(_, sql)| is_absent(sql)).map(|(what, _)| (*what).to_owned());
    let faults = ["line_500", "line_missing", "500", "badjson", "batch_expired"];
    let struck = &ledger.totals.faults;
    absent.or(faults.into_iter().find(|fault| !struck.contains_key(fault)).map(str::to_owned))
}

/// Demands that the job passes every kind of point, of every kind of call that a first run makes.
fn has_all_steps(points: &[String]) {
    let calls = [
        "POST /v1/chat/completions",
        "POST /v1/files",
        "POST /v1/batches",
        "GET /v1/batches/",
        "GET /v1/files/",
    ];
    for call in calls {
        for point in ["before_send", "reply_begun"] {
            let step = format!("{point} {call}");
            assert!(points.iter().any(|passed| passed.starts_with(&step)), "{step} is not passed");
        }
    }
    for step in ["before_commit", "after_commit", "part_sent", "part_came", "reply_whole"] {
        assert!(points.iter().any(|passed| passed == step), "{step} is not passed");
    }
}
