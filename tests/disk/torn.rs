//! A WAL that a power cut has torn, anywhere: the file comes back as of the last commit that is whole.

use crate::look::{copy, crashed, is_sound, number, size};
use crate::support::Folder;

/// A frame of the WAL: its head and a page.
const FRAME: u64 = 24 + 4096;
const HEAD: u64 = 32;

/// What a project comes to once its WAL has been changed.
fn with_wal(left: &Folder, change: impl FnOnce(&mut Vec<u8>)) -> Folder {
    let folder = copy(left);
    let path = folder.file("overnight.db-wal");
    let mut wal = std::fs::read(&path).unwrap();
    change(&mut wal);
    std::fs::write(&path, wal).unwrap();
    // The index died with the machine.
    std::fs::remove_file(folder.file("overnight.db-shm")).unwrap();
    folder
}

fn attempts(folder: &Folder) -> u64 {
    number(&copy(folder), "SELECT count(*) FROM attempt")
}

/// Demands that a torn file is sound, readable, and holds no more than it did; returns its attempts.
fn comes_back(folder: &Folder, most: u64, what: &str) -> u64 {
    is_sound(folder);
    let there = attempts(folder);
    assert!(there <= most, "{what}");
    let status = folder.status();
    assert_eq!(status["attempts"], there, "{what}");
    assert_eq!(status["requests"]["total"], 5, "{what}");
    folder.ok(&["export", "-"]);
    there
}

#[test]
fn a_wal_that_ends_anywhere_comes_back_to_the_last_whole_commit() {
    let left = crashed(3);
    let (all, length) = (attempts(&left), size(&left.file("overnight.db-wal")));
    let frames = (length - HEAD) / FRAME;
    assert!(frames > 10 && all == 4, "{frames} frames, {all} attempts");
    let mut last = 0;
    for frame in 0..=frames {
        let end = HEAD + frame * FRAME;
        for cut in [end.saturating_sub(1), end, end + 1, end + 2000] {
            let cut = cut.min(length);
            let torn = with_wal(&left, |wal| wal.truncate(cut as usize));
            let there = comes_back(&torn, all, &format!("cut at {cut}"));
            assert!(there >= last || cut < end, "cut at {cut}: less than before");
            last = last.max(there);
        }
    }
    assert_eq!(last, all, "a whole WAL has all");
    for cut in 0..HEAD {
        let torn = with_wal(&left, |wal| wal.truncate(cut as usize));
        comes_back(&torn, all, &format!("cut at {cut}"));
    }
}

#[test]
fn a_wal_with_a_wrong_bit_comes_back_to_a_commit_before_it() {
    let left = crashed(3);
    let (all, length) = (attempts(&left), size(&left.file("overnight.db-wal")));
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (byte, bit) = (rng.usize(..length as usize), rng.u8(..8));
        let torn = with_wal(&left, |wal| wal[byte] ^= 1 << bit);
        comes_back(&torn, all, &format!("seed {seed}: bit {bit} of byte {byte}"));
    }
}

#[test]
fn a_file_whose_wal_is_gone_is_as_of_the_last_time_it_was_folded_back() {
    let left = crashed(3);
    let folder = copy(&left);
    std::fs::remove_file(folder.file("overnight.db-wal")).unwrap();
    assert_eq!(comes_back(&folder, 4, "no WAL"), 0);
    let folder = copy(&left);
    std::fs::remove_file(folder.file("overnight.db-wal")).unwrap();
    std::fs::remove_file(folder.file("overnight.db-shm")).unwrap();
    assert_eq!(comes_back(&folder, 4, "no WAL and no index"), 0);
}
