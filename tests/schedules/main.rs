//! Thousands of runs, each through hours of faults, crashes and waiting, in a world without sockets, threads or a
//! clock of its own: whatever the order in which things happen, the promises hold.
//!
//! A seed draws everything: the table, the prompts, how the run is to go, what the provider does wrong, what gets
//! lost on the way, how long a commit takes, when the process dies. The same seed goes the same way again, event
//! for event, which a test here holds.
//!
//! `OVERNIGHT_SEED=17 cargo test --test schedules` goes one seed's way and tells of it (with `-- --nocapture` at once); `OVERNIGHT_SCHEDULES=100000`
//! goes so many from a seed of the moment on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test is told its seed by the environment")]

mod books;
mod chaos;
mod draw;
mod life;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use life::{Seen, Voice, live};

/// Schedules of a test run that was not asked for any number.
const SCHEDULES: u64 = 1_500;
/// The first seed of these: the same for everybody, so that what fails here fails elsewhere.
const FIRST_SEED: u64 = 1;
/// Side by side.
const THREADS: u64 = 2;

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

/// Goes one seed's way; a promise that is broken is told with the seed and what came before.
fn go(seed: u64) -> Result<Seen, String> {
    let trace = Arc::default();
    let lived = catch_unwind(AssertUnwindSafe(|| live(seed, &trace, Voice::Silent)));
    lived.map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
        let last = trace[trace.len().saturating_sub(40)..].join("\n");
        format!("OVERNIGHT_SEED={seed}: {}\n{last}", words.unwrap_or_default())
    })
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = asked("OVERNIGHT_SEED") {
        live(seed, &Arc::default(), Voice::Loud);
        return;
    }
    let asked = asked("OVERNIGHT_SCHEDULES");
    let first = if asked.is_some() { fastrand::u64(..1 << 40) } else { FIRST_SEED };
    let (next, end) = (AtomicU64::new(first), first + asked.unwrap_or(SCHEDULES));
    let (all, broken) = (Mutex::new(BTreeMap::<&str, u64>::new()), Mutex::new(Vec::new()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || broken.lock().unwrap().len() >= 5 {
                        return;
                    }
                    match go(seed) {
                        Ok(happened) => {
                            let mut all = all.lock().unwrap();
                            for (what, count) in happened.counts() {
                                *all.entry(what).or_default() += count;
                            }
                        }
                        Err(words) => {
                            println!("{}", words.lines().next().unwrap_or_default());
                            broken.lock().unwrap().push(words);
                        }
                    }
                }
            });
        }
    });
    let (all, broken) = (all.into_inner().unwrap(), broken.into_inner().unwrap());
    assert!(
        broken.is_empty(),
        "{} schedules break a promise\n{}",
        broken.len(),
        broken.join("\n\n")
    );
    println!("{} schedules in {:.0?}: {all:?}", end - first, started.elapsed());
    // What never happens is not tested.
    for what in Seen::NAMES {
        let least = if asked.is_some() { 0 } else { 20 };
        assert!(all.get(what).copied().unwrap_or(0) >= least, "{what} is too rare: {all:?}");
    }
}

#[test]
fn a_seed_goes_the_same_way_again() {
    for seed in (FIRST_SEED..).take(30) {
        let ways = [(); 2].map(|()| {
            let trace = Arc::default();
            live(seed, &trace, Voice::Silent);
            std::mem::take(&mut *trace.lock().unwrap())
        });
        let [first, second] = &ways;
        let differs = first.iter().zip(second).position(|(first, second)| first != second);
        if let Some(at) = differs {
            let near = at.saturating_sub(5)..(at + 2).min(first.len()).min(second.len());
            panic!("seed {seed}, at {at}: {:#?} {:#?}", &first[near.clone()], &second[near]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.len() > 10, "seed {seed} has a trace");
    }
}
