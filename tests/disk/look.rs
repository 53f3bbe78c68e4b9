//! What a project's file says, read as any other program would, and copies of it as a crash would leave it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::support::{Act, Folder, Provider};

/// The fingerprint of a body: SHA-256 of its bytes.
pub(crate) type Fingerprint = Vec<u8>;

/// Copies all files of a folder as they stand.
pub(crate) fn copy(folder: &Folder) -> Folder {
    let copy = Folder::new();
    for name in folder.names() {
        std::fs::copy(folder.file(&name), copy.file(&name)).unwrap();
    }
    copy
}

pub(crate) fn open(folder: &Folder) -> Connection {
    Connection::open(folder.file("overnight.db")).unwrap()
}

pub(crate) fn number(folder: &Folder, sql: &str) -> u64 {
    open(folder).query_row(sql, [], |row| row.get(0)).unwrap()
}

pub(crate) fn fingerprints(folder: &Folder, sql: &str) -> HashSet<Fingerprint> {
    let conn = open(folder);
    let mut query = conn.prepare(sql).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Demands that the file is sound, without changing what stands on the disk.
#[track_caller]
pub(crate) fn is_sound(folder: &Folder) {
    let copy = copy(folder);
    let conn = open(&copy);
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let broken: i64 = conn
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(broken, 0);
}

/// The bodies that came from the `after`-th on.
pub(crate) fn came(provider: &Provider, after: usize) -> Vec<Fingerprint> {
    let requests = provider.requests();
    requests[after..].iter().map(|request| Sha256::digest(&request.body).to_vec()).collect()
}

/// Demands that everything the provider was sent is on record, each call as an attempt of its own.
#[track_caller]
pub(crate) fn all_promised(folder: &Folder, provider: &Provider) {
    let copy = copy(folder);
    let attempts =
        "SELECT fingerprint FROM attempt JOIN request ON request.id = attempt.request_id";
    let conn = open(&copy);
    let mut query = conn.prepare(attempts).unwrap();
    let mut promised: Vec<Fingerprint> =
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for body in came(provider, 0) {
        let place = promised.iter().position(|promise| *promise == body);
        promised.swap_remove(place.expect("sent, and not on record"));
    }
}

/// The size of a file, 0 where there is none.
pub(crate) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// What a run leaves that is killed with so many of five rows answered and one more under way.
pub(crate) fn crashed(answered: usize) -> Folder {
    let answers = std::sync::atomic::AtomicUsize::new(answered);
    let provider = Provider::start(move |request| {
        let take = |left: usize| left.checked_sub(1);
        match answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => Act::says(&format!("answer to {}", request.text())),
            Err(_) => Act::Hang,
        }
    });
    let mut folder = Folder::new();
    let url = provider.base_url();
    folder.env("OPENAI_API_KEY", "sk-nobody");
    folder.write("rows.csv", "id,text\nk1,one\nk2,two\nk3,three\nk4,four\nk5,five\n");
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv", "--key", "id"]);
    let mut run = folder.start(&["run", "--concurrency", "1"]);
    provider.wait_for(answered + 1);
    run.kill().unwrap();
    run.wait().unwrap();
    folder
}
