//! Places that a project cannot be worked on in: read-only, full, or on a file system that lacks locks or shared
//! memory. What is there is read all the same, and where it cannot be written, nothing is sent.

use crate::look::{copy, crashed, number};
use crate::shim::{self, EINVAL, ENODEV, ENOLCK, ENOSPC, EOPNOTSUPP, EROFS, Fault};
use crate::support::{Act, Folder, Provider};

/// A kind of place, and the words by which a command names it.
type Place = (&'static str, Fault, &'static str);

fn places() -> Vec<Place> {
    let unfit_locks = "is on a file system without file locks";
    let unfit_memory = "is on a file system without shared memory";
    vec![
        ("read-only", Fault::always("open", EROFS), "the file or its folder is read-only"),
        ("full", Fault::always("write", ENOSPC), "the disk that holds overnight.db is full"),
        ("out of room", Fault::room(1), "the disk that holds overnight.db is full"),
        ("without mmap", Fault::always("mmap", ENODEV), unfit_memory),
        ("without shared mmap", Fault::always("mmap", EINVAL), unfit_memory),
        ("whose locks are not supported", Fault::always("lock", EOPNOTSUPP), unfit_locks),
        ("whose lock server is away", Fault::always("lock", ENOLCK), unfit_locks),
    ]
}

fn project(provider: &Provider) -> Folder {
    let mut folder = Folder::new();
    let url = provider.base_url();
    folder.env("OPENAI_API_KEY", "sk-nobody");
    folder.write("rows.csv", "id,text\nk1,one\nk2,two\nk3,three\n");
    folder.write("more.csv", "id,text\nk4,four\n").write("p.prompt", "Other: {{ text }}");
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    folder.ok(&["run", "--limit", "1"]);
    folder
}

fn echo() -> Provider {
    Provider::start(|request| Act::says(&request.text().to_uppercase()))
}

#[test]
fn what_is_there_is_read_as_anywhere_else() {
    let provider = echo();
    let folder = project(&provider);
    let readers: [&[&str]; 6] = [
        &["status"],
        &["show", "k1"],
        &["export", "-", "--details"],
        &["plan"],
        &["prompt", "list"],
        &["run", "--dry-run"],
    ];
    for (words, fault, _) in places() {
        for args in readers {
            let expected = folder.ok(args);
            let went = shim::run(&folder, args, fault);
            assert!(went.failed() > 0, "{words} {args:?}: the fault was not met");
            assert_eq!(went.said.code, Some(0), "{words} {args:?} {went:#?}");
            assert_eq!(went.said.stdout, expected.stdout, "{words} {args:?}");
        }
    }
}

#[test]
fn where_nothing_can_be_recorded_nothing_is_sent_or_changed() {
    let provider = echo();
    let base = project(&provider);
    let sent = provider.count();
    let writers: [&[&str]; 6] = [
        &["run"],
        &["add", "more.csv", "--key", "id"],
        &["prompt", "add", "p.prompt", "--model", "gpt-4o-mini"],
        &["retry", "--rows", "k1"],
        &["remove", "k1"],
        &["cancel", "--all"],
    ];
    let before = base.status();
    for (words, fault, named) in places() {
        let folder = copy(&base);
        for args in writers {
            let went = shim::run(&folder, args, fault);
            assert_eq!(went.said.code, Some(1), "{words} {args:?} {went:#?}");
            assert!(went.said.stderr.contains("overnight.db"), "{words} {args:?} {went:#?}");
            assert!(went.said.stderr.contains(named), "{words} {args:?} {went:#?}");
        }
        assert_eq!(folder.status(), before, "{words}");
    }
    assert_eq!(provider.count(), sent, "nothing was sent");
}

#[test]
fn no_project_is_made_where_none_can_be_worked_on() {
    for (words, fault, named) in places() {
        let folder = Folder::new();
        let went = shim::run(&folder, &["init", "--model", "gpt-4o-mini", "--prompt", "a"], fault);
        assert_eq!(went.said.code, Some(1), "{words} {went:#?}");
        assert!(went.said.stderr.contains(named), "{words} {went:#?}");
        assert!(folder.names().is_empty(), "{words} left {:?}", folder.names());
    }
}

#[test]
fn a_run_that_cannot_keep_a_second_one_out_does_not_start() {
    let provider = echo();
    let folder = project(&provider);
    let sent = provider.count();
    for errno in [ENOLCK, EOPNOTSUPP] {
        let went = shim::run(&folder, &["run"], Fault::always("flock", errno));
        assert_eq!(went.said.code, Some(1), "{went:#?}");
        let named = "overnight.db is on a file system without file locks";
        assert!(went.said.stderr.contains(named), "{went:#?}");
    }
    assert_eq!(provider.count(), sent);
    assert!(!folder.names().contains(&"overnight.db-run".to_owned()), "{:?}", folder.names());
}

#[test]
fn what_a_crash_left_beside_the_file_is_read_where_nothing_can_be_written() {
    let left = crashed(3);
    let answered = number(&copy(&left), "SELECT count(*) FROM request WHERE state = 'answered'");
    assert_eq!(answered, 3);
    // Of a file that has come here with its WAL and without what else was beside it.
    for with_index in [true, false] {
        for (words, fault, _) in places() {
            let folder = copy(&left);
            if !with_index {
                std::fs::remove_file(folder.file("overnight.db-shm")).unwrap();
            }
            let went = shim::run(&folder, &["status", "--json"], fault);
            assert_eq!(went.said.code, Some(0), "{words} {went:#?}");
            assert_eq!(went.said.json()["requests"]["answered"], answered, "{words}");
        }
    }
}
