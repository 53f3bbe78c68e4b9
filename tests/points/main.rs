//! The process dies at every point: right before and right after each commit, and at each step of each call. Another
//! one goes on, and comes to the same table, with nothing bought twice that was not in doubt.
//!
//! It is the real binary that dies, in the middle of all that it does, and the provider lives on. In `cuts` it is the
//! writer of a run in the test's own process; here nothing of the process is left to be tidied up, and there is no
//! command, no commit and no call that has no point.

#![cfg(all(target_os = "linux", debug_assertions))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod books;
mod commands;
mod job;
mod site;

use std::sync::atomic::{AtomicU64, Ordering};

use books::{evidence, holds_at_a_cut, holds_in_the_end, is_kept, number, replies_were_charged};
use job::{RUN, exported, unbroken};
use site::{End, STOPPED, Site};

/// Runs that are cut side by side: mostly they wait.
const SIDE_BY_SIDE: usize = 8;
/// How many runs have to come to their end before it is believed that there are no further points.
const UNCUT: u64 = 5;
/// More points than any run here passes.
const MANY: u64 = 3000;
/// How many processes that die young may follow each other before it is believed that they get nowhere.
const LIVES: usize = 200;
/// How far apart the points are after which also what goes on is cut, where nobody says how far in
/// `OVERNIGHT_POINTS_APART`; 1 is all of them, and takes an hour.
const APART: u64 = 24;
/// Where what goes on is cut: at each of its first steps, which find out what was left, and then further apart.
const AGAIN: [u64; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 21, 26, 33, 45, 70, 110, 190];

/// Cuts a run at a point. Says whether the point was reached.
fn is_cut(site: &Site, at: u64, context: &str) -> Option<Vec<String>> {
    let (said, points) = site.run_to(RUN, Some(at));
    match said.end {
        STOPPED => {
            // The ledger first: what is charged in between is for promises that are on record.
            let ledger = site.ledger();
            holds_at_a_cut(&site.snapshot(), &ledger, context);
            Some(points)
        }
        End::Code(0) => None,
        End::Code(_) | End::Signal(_) => panic!("{context}: {said:#?}"),
    }
}

/// Goes on to the end, which must be that of the run that nothing happened to.
fn goes_on(site: &Site, context: &str) {
    let unbroken = unbroken();
    let before = evidence(&site.snapshot().conn());
    site.run(RUN).ends(0, context);
    let (snapshot, ledger) = (site.snapshot(), site.ledger());
    holds_in_the_end(&snapshot, &ledger, context);
    replies_were_charged(&snapshot, &ledger, context);
    let conn = snapshot.conn();
    is_kept(&before, &evidence(&conn), context);
    let answered = number(&conn, "SELECT count(*) FROM answers WHERE state = 'answered'");
    assert_eq!(answered, unbroken.answered, "{context}");
    let sql = "SELECT count(*) FROM (SELECT 1 FROM attempt JOIN request ON request.id = request_id
               WHERE outcome = 'answered' GROUP BY fingerprint, prompt_id HAVING count(*) > 1)";
    assert_eq!(number(&conn, sql), 0, "{context}: an answer was bought twice");
    assert_eq!(exported(site), unbroken.table, "{context}");
    let calls = ledger.totals.requests;
    let said = site.run(RUN).ends(0, context);
    assert!(said.stderr.contains("nothing to do"), "{context}: {said:?}");
    assert_eq!(site.ledger().totals.requests, calls, "{context}: nothing was left to do");
}

/// Does something for each of these, side by side, until it has said several times that there is no more. Returns how
/// often it was done.
fn for_each<T: Send>(them: impl Iterator<Item = T> + Send, each: impl Fn(T) -> bool + Sync) -> u64 {
    let them = std::sync::Mutex::new(them);
    let (done, not_done) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while not_done.load(Ordering::SeqCst) < UNCUT {
                    let Some(one) = them.lock().unwrap().next() else { return };
                    let counter = if each(one) { &done } else { &not_done };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    done.into_inner()
}

#[test]
fn a_mixed_job_comes_to_the_same_table_wherever_its_process_dies() {
    let passed = unbroken().points.len();
    let cut = AtomicU64::new(0);
    for_each(1..MANY, |at| {
        let context = format!("cut at point {at}");
        let site = job::site();
        // No two runs pass the very same points, and the shortest says nothing of the others.
        let Some(points) = is_cut(&site, at, &context) else { return at < passed as u64 };
        cut.fetch_add(1, Ordering::SeqCst);
        assert_eq!(points.len() as u64, at, "{context}: {points:?}");
        // No commit is on the disk that has no point after it; only the last one may have been on its way back when
        // another thread passed the point that ended the process.
        let last = |name: &str| points.iter().rposition(|point| point == name);
        let told = points.iter().filter(|point| *point == "after_commit").count();
        let on_its_way = usize::from(last("before_commit") > last("after_commit"));
        let on_disk = site.commits_in_wal();
        assert!(
            (told..=told + on_its_way).contains(&on_disk),
            "{context}: {on_disk} commits, {told} told: {points:?}"
        );
        goes_on(&site, &context);
        true
    });
    let cut = cut.into_inner();
    println!("points cut: {cut} (the unbroken run passes {passed})");
    assert!(cut >= 300, "only {cut} points were cut at");
}

#[test]
fn what_goes_on_after_a_cut_is_cut_as_well() {
    let passed = unbroken().points.len() as u64;
    #[expect(clippy::disallowed_methods, reason = "how a person asks for more of them")]
    let apart =
        std::env::var("OVERNIGHT_POINTS_APART").map_or(APART, |apart| apart.parse().unwrap());
    let pairs = (0..passed / apart).flat_map(|nth| AGAIN.map(|again| (1 + nth * apart, again)));
    let (ends, cut) = (AtomicU64::new(0), AtomicU64::new(0));
    for_each(pairs, |(first, again)| {
        let context = format!("cut at point {first}, and again at point {again}");
        let site = job::site();
        // The steps of two runs are not in the same order; where one is shorter there is nothing to be cut.
        if is_cut(&site, first, &context).is_some() && is_cut(&site, again, &context).is_some() {
            goes_on(&site, &context);
            cut.fetch_add(1, Ordering::SeqCst);
        } else {
            ends.fetch_add(1, Ordering::SeqCst);
        }
        true
    });
    let (cut, ends) = (cut.into_inner(), ends.into_inner());
    println!("cuts in recovery: {cut} ({ends} came to their end before)");
    assert!(cut >= 200, "only {cut} recoveries were cut");
}

#[test]
fn processes_that_each_live_for_a_few_steps_come_to_the_same_table() {
    let lives = AtomicU64::new(0);
    for_each([52, 57, 63, 69, 75, 90, 120].into_iter(), |steps| {
        let context = format!("each lives for {steps} steps");
        let site = job::site();
        let young = (0..LIVES).take_while(|_| is_cut(&site, steps, &context).is_some());
        let cut = young.count();
        assert!(cut < LIVES, "{context}: it does not get on");
        assert!(cut > 1, "{context}: {cut} were cut");
        lives.fetch_add(cut as u64, Ordering::SeqCst);
        goes_on(&site, &context);
        true
    });
    println!("processes that lived for a few steps: {}", lives.into_inner());
}
