//! The process dies at every point: right before and right after each commit, and at each step of each call. Another
//! one goes on, and comes to the same table, with nothing bought twice that was not in doubt.
//!
//! It is the real binary that dies, in the middle of all that it does, and the provider lives on. In `cuts` it is the
//! writer of a run in the test's own process; here nothing of the process is left to be tidied up, and there is no
//! command, no commit and no call that has no point.

#![cfg(all(target_os = "linux", debug_assertions))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod books;
mod job;
mod site;

use std::sync::atomic::{AtomicU64, Ordering};

use books::{holds_at_a_cut, holds_in_the_end, number, replies_were_charged};
use job::{RUN, exported, unbroken};
use site::{End, STOPPED, Site};

/// Runs that are cut side by side: mostly they wait.
const SIDE_BY_SIDE: usize = 8;
/// How many runs have to come to their end before it is believed that there are no further points.
const UNCUT: u64 = 6;
/// More points than any run here passes.
const MANY: u64 = 3000;

/// Cuts a run at a point. Says whether the point was reached.
fn is_cut(site: &Site, at: u64, context: &str) -> bool {
    let (said, _) = site.run_to(RUN, Some(at));
    match said.end {
        STOPPED => {
            let ledger = site.ledger();
            holds_at_a_cut(&site.snapshot(), &ledger, context);
            true
        }
        End::Code(0) => false,
        End::Code(_) | End::Signal(_) => panic!("{context}: {said:#?}"),
    }
}

/// Goes on to the end, which must be that of the run that nothing happened to.
fn goes_on(site: &Site, context: &str) {
    let unbroken = unbroken();
    site.run(RUN).ends(0, context);
    let (snapshot, ledger) = (site.snapshot(), site.ledger());
    holds_in_the_end(&snapshot, &ledger, context);
    replies_were_charged(&snapshot, &ledger, context);
    let conn = snapshot.conn();
    let answered = number(&conn, "SELECT count(*) FROM answers WHERE state = 'answered'");
    assert_eq!(answered, unbroken.answered, "{context}");
    assert_eq!(exported(site), unbroken.table, "{context}");
}

/// Does something for every number from 1, side by side, until it has said several times that there is no more.
/// Returns how often it was done.
fn for_each_point(each: impl Fn(u64) -> bool + Sync) -> u64 {
    let (next, done, uncut) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while uncut.load(Ordering::SeqCst) < UNCUT {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    assert!(at < MANY, "the points do not end");
                    let counter = if each(at) { &done } else { &uncut };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    done.into_inner()
}

#[test]
fn a_mixed_job_comes_to_the_same_table_wherever_its_process_dies() {
    let points = unbroken().points.len();
    let cut = for_each_point(|at| {
        let context = format!("cut at point {at}");
        let site = job::site();
        let is_cut = is_cut(&site, at, &context);
        if is_cut {
            goes_on(&site, &context);
        }
        is_cut
    });
    println!("points cut: {cut} (the unbroken run passes {points})");
    assert!(cut >= 250, "only {cut} points were cut at");
}

#[test]
fn only_unbroken() {
    unbroken();
}
