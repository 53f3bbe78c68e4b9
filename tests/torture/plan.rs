//! What a round does, drawn from its seed before it begins: the table, the prompts, the provider, and one act after
//! another.

use std::time::Duration;

use fastrand::Rng;

/// One thing that is done to a project.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A run, which is killed after a while if it has not ended by then.
    Run { args: Vec<String>, kill_after: Duration },
    /// Another command, which is killed likewise.
    Command { args: Vec<String>, kill_after: Option<Duration> },
    /// A file that changes before a command reads it.
    Write { name: String, content: String },
}

/// A round.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: String,
    pub(crate) latency: Duration,
    pub(crate) batch_delay: Duration,
    pub(crate) enqueued_tokens: Option<u64>,
    pub(crate) rpm: Option<u32>,
    pub(crate) max_attempts: u64,
    pub(crate) prompt: String,
    pub(crate) table: String,
    pub(crate) acts: Vec<Act>,
}

/// What may go wrong, and how often at most.
const FAULTS: [(&str, f64); 49] = [
    ("429", 0.1),
    ("500", 0.1),
    ("503", 0.04),
    ("reset", 0.06),
    ("close", 0.06),
    ("hang", 0.03),
    ("slow", 0.05),
    ("cut", 0.06),
    ("badjson", 0.06),
    ("html", 0.03),
    ("empty", 0.03),
    ("wrongtype", 0.03),
    ("wronglabel", 0.05),
    ("refusal", 0.03),
    ("content_filter", 0.03),
    ("length", 0.08),
    ("lost", 0.08),
    ("400", 0.02),
    ("context", 0.02),
    ("413", 0.02),
    ("upload_500", 0.2),
    ("upload_lost", 0.3),
    ("create_500", 0.2),
    ("create_429", 0.1),
    ("create_404", 0.1),
    ("create_lost", 0.3),
    ("batch_failed", 0.1),
    ("batch_tokens", 0.1),
    ("batch_broken", 0.1),
    ("batch_expired", 0.15),
    ("batch_cancelled", 0.1),
    ("batch_vanished", 0.05),
    ("batch_stuck", 0.1),
    ("result_emptyid", 0.3),
    ("result_emptyfile", 0.3),
    ("result_counts", 0.3),
    ("line_429", 0.1),
    ("line_500", 0.1),
    ("line_missing", 0.1),
    ("line_doubled", 0.1),
    ("line_unknown", 0.05),
    ("line_garbled", 0.05),
    ("line_separator", 0.1),
    ("line_both", 0.1),
    ("poll_500", 0.1),
    ("poll_429", 0.03),
    ("content_404", 0.1),
    ("content_500", 0.1),
    ("content_cut", 0.2),
];

/// What stops a run; each happens once or twice at most, or nothing would ever come to an end.
const STOPPING: [&str; 4] = ["quota", "401", "403", "404"];

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        // Mostly small: what is broken shows in few rows as well, and more rounds show more.
        let rows = match rng.u32(..8) {
            0 => rng.usize(60..300),
            1 | 2 => rng.usize(20..60),
            _ => rng.usize(1..20),
        };
        let table = table(rng, rows);
        let mut plan = Self {
            seed,
            faults: faults(rng),
            latency: Duration::from_millis(rng.u64(0..60)),
            batch_delay: Duration::from_millis(if rng.bool() { 0 } else { rng.u64(0..120) }),
            enqueued_tokens: rng.bool().then(|| rng.u64(150..3000)),
            rpm: (rng.u32(..6) == 0).then(|| rng.u32(600..6000)),
            max_attempts: rng.u64(2..5),
            prompt: prompt(rng, "main"),
            table,
            acts: Vec::new(),
        };
        let mut table = plan.table.clone();
        plan.acts.push(Act::Run { args: run(rng), kill_after: kill_after(rng) });
        for _ in 0..rng.usize(3..9) {
            plan.acts.extend(act(rng, &mut table));
        }
        plan
    }
}

impl Act {
    /// Returns what it is, in one line.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Run { args, kill_after } => {
                format!("{} killed after {kill_after:?}", args.join(" "))
            }
            Self::Command { args, kill_after } => {
                format!("{} killed after {kill_after:?}", args.join(" "))
            }
            Self::Write { name, .. } => format!("write {name}"),
        }
    }
}

fn faults(rng: &mut Rng) -> String {
    let most = 1.5 * rng.f64();
    let mut ordered = Vec::new();
    for (fault, rate) in FAULTS {
        if rng.f64() < most * 0.5 {
            ordered.push(format!("{fault}={:.3}", rate * rng.f64()));
        }
    }
    if rng.u32(..5) == 0 {
        let fault = STOPPING[rng.usize(..STOPPING.len())];
        ordered.push(format!("{fault}=first:{}", rng.u32(1..3)));
    }
    ordered.join(",")
}

const KOREAN: [&str; 6] =
    ["배송이 빨라요", "그저 그래요", "다시는 안 삽니다", "선물로 좋아요", "색이 다릅니다", "만족"];
const ENGLISH: [&str; 6] =
    ["works well", "broke, sadly", "as described", "\"fine\"", "too small", "would buy again"];

fn review(rng: &mut Rng) -> String {
    let words = match rng.u32(..12) {
        0 => rng.usize(60..250),
        1 | 2 => rng.usize(10..40),
        // Few words: many rows have the same.
        _ => rng.usize(1..3),
    };
    let from = if rng.bool() { KOREAN } else { ENGLISH };
    let words: Vec<&str> = (0..words).map(|_| from[rng.usize(..from.len())]).collect();
    words.join(" ")
}

fn line(key: usize, review: &str) -> String {
    format!("k{key},\"{}\"\n", review.replace('"', "\"\""))
}

fn table(rng: &mut Rng, rows: usize) -> String {
    let mut text = String::from("id,review\n");
    for row in 0..rows {
        text.push_str(&line(row, &review(rng)));
    }
    text
}

/// The table with more rows, or with some that say something else.
fn changed(rng: &mut Rng, table: &str) -> String {
    let lines: Vec<&str> = table.lines().collect();
    let mut text = format!("{}\n", lines[0]);
    for (row, old) in lines[1..].iter().enumerate() {
        match rng.u32(..10) {
            0 => text.push_str(&line(row, &review(rng))),
            _ => text.push_str(&format!("{old}\n")),
        }
    }
    for row in 0..rng.usize(..8) {
        text.push_str(&line(lines.len() - 1 + row, &review(rng)));
    }
    text
}

fn prompt(rng: &mut Rng, name: &str) -> String {
    let model = ["small", "large"][rng.usize(..2)];
    let (form, words) = match rng.u32(..3) {
        0 => ("choices: [good, bad, mixed]\n", "Label it"),
        1 => (
            "schema:\n  type: object\n  properties:\n    tone: {type: string, enum: [warm, cold]}\n    stars: {type: integer}\n  required: [tone, stars]\n  additionalProperties: false\n",
            "Judge it",
        ),
        _ => ("", "Say in a word what it says"),
    };
    let tokens = match rng.u32(..3) {
        0 => String::new(),
        1 => format!("max_tokens: {}\n", rng.u32(8..40)),
        _ => format!("max_tokens: {}\nmax_tokens_limit: 400\n", rng.u32(6..16)),
    };
    let words = format!("{words}, {name}{}", rng.u32(..3));
    format!("---\nmodel: openai/{model}\n{tokens}{form}---\n{words}: {{{{ review }}}}\n")
}

/// When a process is killed: more often early than late, since most of what there is to break is there; but seldom
/// before it has read the record.
fn kill_after(rng: &mut Rng) -> Duration {
    Duration::from_micros((25_000.0 * 60f64.powf(rng.f64())) as u64)
}

fn act(rng: &mut Rng, table: &mut String) -> Vec<Act> {
    let command = |args: &[&str], kill_after| Act::Command {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        kill_after,
    };
    let early = |rng: &mut Rng| rng.bool().then(|| Duration::from_micros(rng.u64(1000..40_000)));
    let row = format!("k{}", rng.usize(..table.lines().count()));
    match rng.u32(..32) {
        0 | 1 => {
            *table = changed(rng, table);
            let write = Act::Write { name: "rows.csv".to_owned(), content: table.clone() };
            vec![write, command(&["add", "rows.csv", "--key", "id"], early(rng))]
        }
        2 => vec![command(&["retry", "--failed"], early(rng))],
        3 => vec![command(&["retry", "--truncated", "--max-tokens", "200"], early(rng))],
        4 => vec![command(&["retry", "--in-doubt"], early(rng))],
        5 => vec![command(&["retry", "--rows", &row], early(rng))],
        6 => vec![command(&["remove", &row], early(rng))],
        7 | 8 => vec![command(&["cancel", "--all", "--poll", "100ms"], Some(kill_after(rng)))],
        9 => {
            let name = ["main", "second"][rng.usize(..2)];
            let content = prompt(rng, name);
            let write = Act::Write { name: "next.prompt".to_owned(), content };
            vec![write, command(&["prompt", "add", "next.prompt", "--name", name], early(rng))]
        }
        10 => vec![command(&["export", "out.csv"], early(rng)), command(&["status"], None)],
        _ => vec![Act::Run { args: run(rng), kill_after: kill_after(rng) }],
    }
}

/// A run with some of its options.
pub(crate) fn run(rng: &mut Rng) -> Vec<String> {
    let mut args: Vec<String> =
        ["run", "--timeout", "2s", "--poll", "100ms"].map(str::to_owned).into();
    let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
    add("--route", ["auto", "batch", "batch", "realtime"][rng.usize(..4)].to_owned());
    if rng.bool() {
        add("--oversized", ["realtime", "wait", "fail"][rng.usize(..3)].to_owned());
    }
    if rng.bool() {
        add("--concurrency", rng.u32(1..17).to_string());
    }
    if rng.bool() {
        add("--batch-size", rng.u32(1..40).to_string());
    }
    if rng.u32(..5) == 0 {
        add("--batch-tokens", rng.u32(100..2000).to_string());
    }
    if rng.u32(..5) == 0 {
        add("--limit", rng.u32(1..30).to_string());
    }
    if rng.u32(..5) == 0 {
        add("--in-doubt", "hold".to_owned());
    }
    if rng.u32(..4) == 0 {
        args.push("--no-wait".to_owned());
    }
    args
}
