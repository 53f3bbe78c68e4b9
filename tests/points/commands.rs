//! Commands that change the record in one go: wherever their process dies, they have done all of it or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::books::is_whole;
use crate::job::{self, RUN, exported, unbroken};
use crate::site::{End, PROJECT, STOPPED, Site, settings};
use crate::{MANY, holds_in_the_end};

/// Every table, line by line, without the times.
type Dump = BTreeMap<String, Vec<String>>;

fn dump(conn: &Connection) -> Dump {
    let texts = |sql: &str| -> Vec<String> {
        let mut query = conn.prepare(sql).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .into_iter()
        .map(|table| {
            let columns = texts(&format!(
                "SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}') WHERE name NOT LIKE '%at_ms'"
            ));
            let lines = texts(&format!("SELECT {} FROM {table}", columns.join(" || ',' || ")));
            (table, lines)
        })
        .collect()
}

/// What the project comes to as it lies there; nothing where there is none.
fn standing(site: &Site) -> Option<Dump> {
    site.path(PROJECT).exists().then(|| {
        let snapshot = site.snapshot();
        let conn = snapshot.conn();
        is_whole(&conn, "as it lies there");
        dump(&conn)
    })
}

/// A command, and what it is given.
struct Case<'a> {
    args: &'a [&'a str],
    /// The project that it starts with.
    project: Option<&'a Path>,
    /// Files beside it.
    files: &'a [(&'a str, &'a str)],
    /// The command with less to do each time: what it may also have come to.
    parts: &'a [&'a [&'a str]],
}

impl Case<'_> {
    fn site(&self) -> Site {
        let project: Vec<PathBuf> = self.project.into_iter().map(Path::to_owned).collect();
        let site = Site::new(settings(), &project);
        for (name, content) in self.files {
            site.write(name, content);
        }
        site
    }

    /// Cuts it at every point. What it has come to then is nothing, all, or one of its parts; and the command does
    /// what was left to do. Returns how many points there were.
    fn at_every_point(&self, least: u64) -> u64 {
        let whole = self.site();
        let nothing = standing(&whole);
        whole.ok(self.args);
        let all = standing(&whole);
        assert_ne!(all, nothing, "{:?} does something", self.args);
        let parts: Vec<Option<Dump>> = self
            .parts
            .iter()
            .map(|part| {
                let site = self.site();
                site.ok(part);
                standing(&site)
            })
            .collect();
        for at in 1..MANY {
            let context = format!("{:?} cut at point {at}", self.args);
            let site = self.site();
            let (said, points) = site.run_to(self.args, Some(at));
            match said.end {
                STOPPED => {}
                End::Code(0) => {
                    assert!(at > least, "{context}: {points:?}");
                    return at - 1;
                }
                End::Code(_) | End::Signal(_) => panic!("{context}: {said:#?}"),
            }
            let now = standing(&site);
            if now.is_some() {
                let said = site.snapshot().audit();
                assert_eq!(said.end, End::Code(0), "{context}: {said:#?}");
            }
            if now != all {
                assert!(now == nothing || parts.contains(&now), "{context}: {now:#?}");
                site.ok(self.args);
                assert_eq!(standing(&site), all, "{context}, and then done");
            }
        }
        panic!("the points do not end");
    }
}

const TABLE: &str = "id,review\na,one\nb,two\nc,three\n";
const GROWN: &str = "id,review\na,one\nb,another\nd,four\n";

#[test]
fn init_makes_a_project_with_its_prompt_or_nothing() {
    // Its token is drawn anew each time, so what it comes to is looked at by what it holds.
    for at in 1..MANY {
        let context = format!("init cut at point {at}");
        let site = Site::new(settings(), &[]);
        let args = ["init", "--prompt", "Say {{ review }}", "--model", "say"];
        let (said, points) = site.run_to(&args, Some(at));
        match said.end {
            STOPPED if site.path(PROJECT).exists() => {
                let snapshot = site.snapshot();
                is_whole(&snapshot.conn(), &context);
                assert_eq!(snapshot.store().live_prompts().unwrap().len(), 1, "{context}");
            }
            STOPPED => {
                site.ok(&args);
            }
            End::Code(0) => {
                println!("points of init: {}", at - 1);
                return assert!(at > 5, "{points:?}");
            }
            End::Code(_) | End::Signal(_) => panic!("{context}: {said:#?}"),
        }
        site.write("rows.csv", TABLE);
        site.ok(&["add", "rows.csv"]);
    }
    panic!("the points do not end");
}

#[test]
fn add_takes_each_file_whole_or_not_at_all() {
    let project = job::fresh();
    let case = Case {
        args: &["add", "one.csv", "two.csv", "--key", "id"],
        project: Some(&project),
        files: &[("one.csv", TABLE), ("two.csv", GROWN)],
        parts: &[&["add", "one.csv", "--key", "id"]],
    };
    println!("points of add: {}", case.at_every_point(4));
}

#[test]
fn prompt_add_remove_and_retry_do_all_or_nothing() {
    let done = unbroken().file.path().join(PROJECT);
    let commands: [&[&str]; 4] = [
        &["prompt", "add", "--text", "Judge: {{ review }}", "--name", "label", "--model", "label"],
        &["prompt", "add", "--text", "New: {{ review }}", "--name", "new", "--model", "label"],
        &["remove", "k2", "k3"],
        &["retry", "--rows", "k1", "k2", "k6", "--max-tokens", "300"],
    ];
    for args in commands {
        let case = Case { args, project: Some(&done), files: &[], parts: &[] };
        println!("points of {args:?}: {}", case.at_every_point(2));
    }
}

#[test]
fn an_older_file_is_brought_up_whole_or_not_at_all() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/projects");
    let mut cut = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|ending| ending != "db") {
            continue;
        }
        for at in 1..MANY {
            let context = format!("{} cut at point {at}", file.display());
            let site = Site::new(settings(), &[]);
            std::fs::copy(&file, site.path(PROJECT)).unwrap();
            let (said, _) = site.run_to(&["status"], Some(at));
            if said.end != STOPPED {
                said.ends(0, &context);
                break;
            }
            cut += 1;
            is_whole(&site.snapshot().conn(), &context);
            let status = site.ok(&["status"]).stdout;
            let untouched = Site::new(settings(), &[]);
            std::fs::copy(&file, untouched.path(PROJECT)).unwrap();
            assert_eq!(status, untouched.ok(&["status"]).stdout, "{context}");
        }
    }
    assert!(cut >= 2, "only {cut} points were cut at");
}

#[test]
fn an_export_is_the_old_file_or_the_new_one() {
    let done = unbroken().file.path().join(PROJECT);
    for at in 1..MANY {
        let context = format!("export cut at point {at}");
        let site = Site::new(settings(), std::slice::from_ref(&done));
        site.write("out.csv", "the old one\n");
        let (said, _) = site.run_to(&["export", "out.csv"], Some(at));
        if said.end != STOPPED {
            said.ends(0, &context);
            return assert!(at > 2, "only {at} points");
        }
        let out = site.read("out.csv");
        assert!(out == "the old one\n" || out == unbroken().table, "{context}: {out}");
        site.ok(&["export", "out.csv"]);
        assert_eq!(site.read("out.csv"), unbroken().table, "{context}");
    }
    panic!("the points do not end");
}

#[test]
fn a_cancellation_that_dies_anywhere_loses_nothing_of_what_was_done() {
    let cut = crate::for_each(1..MANY, |at| {
        let context = format!("cancel cut at point {at}");
        let site = job::site();
        let leaving = [RUN, &["--no-wait"]].concat();
        site.run(&leaving).ends(4, &context);
        let (said, points) = site.run_to(&["cancel", "--all", "--poll", "150ms"], Some(at));
        match said.end {
            STOPPED => {}
            End::Code(0) => {
                let asked = points.iter().any(|point| point.ends_with("/cancel"));
                assert!(asked, "{context}: {points:?}");
                return false;
            }
            End::Code(_) | End::Signal(_) => panic!("{context}: {said:#?}"),
        }
        crate::holds_at_a_cut(&site.snapshot(), &site.ledger(), &context);
        site.run(&["cancel", "--all", "--poll", "150ms"]).ends(0, &context);
        site.run(RUN).ends(0, &context);
        holds_in_the_end(&site.snapshot(), &site.ledger(), &context);
        assert_eq!(exported(&site), unbroken().table, "{context}");
        true
    });
    println!("points of cancel: {cut}");
    assert!(cut >= 30, "only {cut} points were cut at");
}
