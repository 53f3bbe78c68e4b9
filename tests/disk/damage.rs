//! A project's file with other bytes in it than were written: cut short, bits turned, pages zeroed, swapped or made up.
//! No command panics, hangs or takes all memory; each says which file is damaged and what to do. A run never
//! sends what was answered before, and one that ends with an error has sent nothing.

use std::collections::HashSet;

use crate::look::{came, copy};
use crate::shim::{self, Fault};
use crate::support::{Act, Folder, Provider};

const PAGE: usize = 4096;
const ROWS: usize = 30;

/// A project of which two thirds are answered.
fn project(provider: &Provider) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "sk-nobody");
    let url = provider.base_url();
    let mut table = String::from("id,text\n");
    for row in 0..ROWS {
        table.push_str(&format!("k{row},text {row} {}\n", "word ".repeat(row * 5)));
    }
    folder.write("rows.csv", table);
    let init =
        ["init", "--model", "gpt-4o-mini", "--prompt", "Say: {{ text }}", "--base-url", &url];
    folder.ok(&init);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run", "--limit", "20"]);
    folder
}

fn echo() -> Provider {
    Provider::start(|request| Act::says(&request.text().to_uppercase()))
}

/// Reads and runs a project with these bytes in it.
fn holds(base: &Folder, provider: &Provider, bytes: &[u8], what: &str) {
    let bought: HashSet<_> = came(provider, 0).into_iter().take(20).collect();
    let mut folder = copy(base);
    folder.env("OPENAI_API_KEY", "sk-nobody").write("overnight.db", bytes);
    let all: [&[&str]; 5] =
        [&["status", "--json"], &["show", "k3"], &["export", "-"], &["plan"], &["run"]];
    for args in all {
        let before = provider.count();
        let said = shim::run(&folder, args, Fault::none()).said;
        shim::ended_well(&said, args, what);
        let named = said.stderr.contains("overnight.db") || said.stderr.contains("\"k3\"");
        assert!(said.code != Some(1) || named, "{what} {args:?} {said:#?}");
        let sent = came(provider, before);
        assert!(sent.iter().all(|body| !bought.contains(body)), "{what}: bought again");
        assert!(said.code != Some(1) || sent.is_empty(), "{what} {args:?}: sent, {said:#?}");
    }
}

/// Damages a file in a way that its seed says.
fn damage(bytes: &mut Vec<u8>, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let length = bytes.len();
    let any_page = |rng: &mut fastrand::Rng| rng.usize(..length / PAGE) * PAGE;
    let way = match seed % 6 {
        0 => {
            for _ in 0..rng.usize(1..8) {
                bytes[rng.usize(..length)] ^= 1 << rng.u8(..8);
            }
            "bits turned"
        }
        1 => {
            bytes[rng.usize(..100)] = rng.u8(..);
            "another byte in its head"
        }
        2 => {
            let page = any_page(&mut rng);
            bytes[page..page + PAGE].fill(0);
            "a page zeroed"
        }
        3 => {
            let page = any_page(&mut rng);
            rng.fill(&mut bytes[page..page + PAGE]);
            "a page of noise"
        }
        4 => {
            let (from, to) = (any_page(&mut rng), any_page(&mut rng));
            bytes.copy_within(from..from + PAGE, to);
            "a page twice"
        }
        _ => {
            bytes.truncate(rng.usize(..length));
            "cut short"
        }
    };
    format!("seed {seed}: {way}")
}

/// Tries so many seeds; several tests share them, so that they run side by side.
fn seeds(seeds: std::ops::Range<u64>) {
    let provider = echo();
    let base = project(&provider);
    let whole = std::fs::read(base.file("overnight.db")).unwrap();
    for seed in seeds {
        let mut bytes = whole.clone();
        let what = damage(&mut bytes, seed);
        holds(&base, &provider, &bytes, &what);
    }
}

#[test]
fn a_damaged_file_is_named_and_nothing_in_it_is_bought_again() {
    seeds(0..120);
}

#[test]
fn another_damaged_file_is_named_and_nothing_in_it_is_bought_again() {
    seeds(120..240);
}

#[test]
fn a_file_that_ends_at_any_page_is_named_and_nothing_in_it_is_bought_again() {
    let provider = echo();
    let base = project(&provider);
    let whole = std::fs::read(base.file("overnight.db")).unwrap();
    for page in (0..=whole.len() / PAGE).step_by(3) {
        for cut in [(page * PAGE).saturating_sub(1), page * PAGE, page * PAGE + 1] {
            let cut = cut.min(whole.len());
            holds(&base, &provider, &whole[..cut], &format!("cut at {cut}"));
        }
    }
}

#[test]
fn what_is_no_project_is_said_to_be_none() {
    let folder = Folder::new();
    folder.write("empty.db", "").write("text.db", "id,text\n1,a\n".repeat(1000));
    folder.write("head.db", "SQLite format 3\0").write("zero.db", [0; 8192]);
    std::fs::create_dir(folder.file("folder.db")).unwrap();
    let other = rusqlite::Connection::open(folder.file("other.db")).unwrap();
    other
        .execute_batch("PRAGMA application_id = 7; CREATE TABLE t (a); PRAGMA user_version = 2")
        .unwrap();
    drop(other);
    let before = folder.names();
    for name in ["empty.db", "text.db", "head.db", "zero.db", "folder.db", "other.db", "none.db"] {
        for command in ["status", "export", "plan", "run", "show"] {
            let args: &[&str] = match command {
                "export" => &["-p", name, "export", "-"],
                "show" => &["-p", name, "show", "1"],
                other => &["-p", name, other],
            };
            let said = shim::run(&folder, args, Fault::none()).said.ends(1);
            assert!(said.stderr.contains(name), "{args:?} {said:#?}");
        }
    }
    assert_eq!(folder.names(), before);
}
