//! `backup`: a copy that is whole at every moment, while a run goes on too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::{Act, Folder, Provider, table};

/// A provider that lets only so many requests through, and their number.
fn gated(open_to: usize) -> (Provider, Arc<AtomicUsize>) {
    let limit = Arc::new(AtomicUsize::new(open_to));
    let (open, came) = (Arc::clone(&limit), AtomicUsize::new(0));
    let provider = Provider::start(move |request| {
        let number = came.fetch_add(1, Ordering::SeqCst);
        while number >= open.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Act::says(&request.text().to_uppercase())
    });
    (provider, limit)
}

fn project(base_url: &str, rows: usize) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", "test");
    folder.write("rows.csv", table(rows));
    folder.ok(&[
        "init",
        "--model",
        "gpt-4o-mini",
        "--prompt",
        "{{ review }}",
        "--base-url",
        base_url,
    ]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder
}

fn answered(folder: &Folder, name: &str) -> u64 {
    let status = folder.ok(&["-p", name, "status", "--json"]).json();
    status["requests"]["answered"].as_u64().unwrap()
}

#[test]
fn copies_of_a_run_that_goes_on_are_whole_and_grow() {
    let (provider, open) = gated(0);
    let folder = project(&provider.base_url(), 120);
    let run = folder.start(&["run", "--concurrency", "4"]);
    let mut last = 0;
    for round in 1..=4 {
        open.store(round * 25, Ordering::SeqCst);
        // Four more wait at the gate: all that were let through have been answered.
        provider.wait_for(round * 25 + 4);
        let name = format!("copy{round}.db");
        folder.ok(&["backup", &name]);
        folder.ok(&["-p", &name, "audit"]);
        // What is in flight in a run that goes on is nothing wrong either.
        folder.ok(&["audit"]);
        let count = answered(&folder, &name);
        assert!(
            count >= last && count <= (round * 25) as u64,
            "{count} after {last} in round {round}"
        );
        assert!(count + 4 >= (round * 25) as u64, "{count} in round {round}");
        last = count;
    }
    open.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!((answered(&folder, "overnight.db"), provider.count()), (120, 120));
    folder.ok(&["audit"]);
    // A copy is a project: it goes on from its own moment.
    let left = 120 - answered(&folder, "copy2.db");
    folder.ok(&["-p", "copy2.db", "run"]);
    assert_eq!(provider.count() as u64, 120 + left);
    folder.ok(&["-p", "copy2.db", "audit"]);
    let exported = |name: &str| folder.ok(&["-p", name, "export", "-"]).stdout;
    assert_eq!(exported("copy2.db"), exported("overnight.db"));
}

/// A finished project on the simulated provider.
fn finished() -> Folder {
    let folder = Folder::new();
    folder.write("rows.csv", table(5));
    folder.ok(&["init", "--model", "simulated/small", "--prompt", "{{ review }}"]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run", "-q"]);
    folder
}

#[test]
fn a_copy_is_one_file_that_only_its_owner_can_read() {
    let folder = finished();
    let said = folder.ok(&["backup", "copy.db"]);
    assert!(said.stderr.starts_with("copy.db: 5 rows, 5 answered, "), "{said:?}");
    assert_eq!(
        (said.stdout.as_str(), folder.names()),
        ("", vec!["copy.db".into(), "overnight.db".into(), "rows.csv".into()])
    );
    assert_eq!(pragmas(&folder.file("copy.db")), pragmas(&folder.file("overnight.db")));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.file("copy.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let shown = |name: &str| folder.ok(&["-p", name, "show", "#3", "--json"]).stdout;
    assert_eq!(shown("copy.db"), shown("overnight.db"));
}

#[expect(clippy::disallowed_methods, reason = "read as any other program would")]
fn pragmas(project: &Path) -> [String; 3] {
    let conn = rusqlite::Connection::open(project).unwrap();
    ["application_id", "user_version", "journal_mode"].map(|name| {
        let value: rusqlite::types::Value =
            conn.pragma_query_value(None, name, |row| row.get(0)).unwrap();
        format!("{value:?}")
    })
}

#[test]
fn nothing_is_replaced_unless_a_person_says_so() {
    let folder = finished();
    folder.write("copy.db", "mine");
    let said = folder.run(&["backup", "copy.db"]).ends(1);
    assert!(
        said.stderr.contains("copy.db exists already") && said.stderr.contains("--force"),
        "{said:?}"
    );
    assert_eq!(folder.read("copy.db"), "mine");
    // What is left of another database of that name would be read into the copy.
    folder.write("copy.db-wal", "left over");
    folder.ok(&["backup", "copy.db", "--force"]);
    folder.ok(&["-p", "copy.db", "audit"]);
    assert!(!folder.names().contains(&"copy.db-wal".to_owned()));
    folder.write("other.db-wal", "left over");
    let said = folder.run(&["backup", "other.db"]).ends(1);
    assert!(said.stderr.contains("other.db-wal exists"), "{said:?}");
}

#[test]
fn the_project_itself_is_never_the_place() {
    let folder = finished();
    let before = std::fs::read(folder.file("overnight.db")).unwrap();
    for place in ["overnight.db", "./overnight.db", "overnight.db-wal", "overnight.db-run"] {
        let said = folder.run(&["backup", "--force", place]).ends(2);
        assert!(said.stderr.contains("is the project itself"), "{said:?}");
    }
    let said = folder.run(&["backup", "--force", "."]).ends(1);
    assert!(said.stderr.contains("is a folder"), "{said:?}");
    let said = folder.run(&["backup", "none/copy.db"]).ends(1);
    assert!(said.stderr.contains("there is no folder none"), "{said:?}");
    assert_eq!(std::fs::read(folder.file("overnight.db")).unwrap(), before);
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
}

#[test]
fn old_and_read_only_projects_are_copied_as_they_are() {
    for name in ["format-1", "format-2", "format-3"] {
        let folder = Folder::new();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/projects").join(name);
        std::fs::copy(fixture.with_extension("db"), folder.file("overnight.db")).unwrap();
        let mut permissions = std::fs::metadata(folder.file("overnight.db")).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(folder.file("overnight.db"), permissions).unwrap();
        folder.ok(&["backup", "copy.db"]);
        assert_eq!(folder.names(), ["copy.db", "overnight.db"]);
        assert_eq!(pragmas(&folder.file("copy.db"))[1], pragmas(&folder.file("overnight.db"))[1]);
        folder.ok(&["-p", "copy.db", "audit"]);
        let exported = |name: &str| folder.ok(&["-p", name, "export", "-"]).stdout;
        assert_eq!(exported("copy.db"), exported("overnight.db"), "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    // No file of this process may grow beyond 64 KiB, as on a disk that is full.
    let folder = finished();
    let binary = env!("CARGO_BIN_EXE_overnight");
    let script = format!("ulimit -f 128; trap '' XFSZ; exec {binary} backup copy.db");
    let said = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let words = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{words}");
    assert!(words.starts_with("error: "), "{words}");
    assert_eq!(folder.names(), ["overnight.db", "rows.csv"]);
    folder.ok(&["audit"]);
}
