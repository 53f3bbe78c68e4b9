//! Rows and answers are their owner's: whatever the process's mask allows, a project and the files beside it can be
//! read by nobody else. What is exported is the user's to share, and is as open as any new file.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use support::{Act, Folder, Provider};

/// Starts a command as a shell with this mask would.
fn start(folder: &Folder, mask: &str, args: &[&str]) -> Child {
    Command::new("sh")
        .args(["-c", &format!("umask {mask}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_overnight"))
        .args(args)
        .current_dir(folder.path())
        .env("OPENAI_API_KEY", "sk-nobody")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn ok(folder: &Folder, mask: &str, args: &[&str]) {
    assert!(start(folder, mask, args).wait().unwrap().success(), "{mask} {args:?}");
}

fn mode(folder: &Folder, name: &str) -> u32 {
    std::fs::metadata(folder.file(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_project_is_its_owners_whatever_the_mask() {
    for (mask, shared) in [("000", 0o666), ("022", 0o644), ("027", 0o640), ("077", 0o600)] {
        let provider = Provider::start(|_| Act::Hang);
        let folder = Folder::new();
        let url = provider.base_url();
        folder.write("a.csv", "text\na\n");
        let init = ["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", &url];
        ok(&folder, mask, &init);
        ok(&folder, mask, &["add", "a.csv"]);
        let mut run = start(&folder, mask, &["run"]);
        provider.wait_for(1);
        let ours: Vec<String> =
            folder.names().into_iter().filter(|name| name.starts_with("overnight.db")).collect();
        let all = ["overnight.db", "overnight.db-run", "overnight.db-shm", "overnight.db-wal"];
        assert_eq!(ours, all);
        for name in ours {
            assert_eq!(mode(&folder, &name), 0o600, "{name} with umask {mask}");
        }
        run.kill().unwrap();
        run.wait().unwrap();
        ok(&folder, mask, &["export", "answers.csv"]);
        assert_eq!(mode(&folder, "answers.csv"), shared, "umask {mask}");
        assert_eq!(mode(&folder, "overnight.db"), 0o600, "umask {mask}");
    }
}

#[test]
fn a_project_that_its_owner_has_opened_to_others_stays_as_he_set_it() {
    let folder = Folder::new();
    ok(&folder, "022", &["init", "--model", "simulated/m", "--prompt", "{{ text }}"]);
    let group = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(folder.file("overnight.db"), group).unwrap();
    folder.write("a.csv", "text\na\n");
    ok(&folder, "022", &["add", "a.csv"]);
    ok(&folder, "022", &["run"]);
    assert_eq!(mode(&folder, "overnight.db"), 0o640);
}
