//! Killed at any moment, under whatever goes wrong, a project keeps its promises.
//!
//! Each round draws a table, prompts, a provider on which much goes wrong, and a handful of runs and other commands,
//! most of which are killed (SIGKILL) at a random moment. After each of them the file is held against its own rules,
//! `audit` and the provider's ledger, and what was on record before must be there still. In the end it is run until
//! nothing is left to do.
//!
//! A round follows from its seed, but for the moment of each kill: that is measured by a clock, and what the
//! process has done by then is the machine's affair. So a seed that failed may have to be tried a few times:
//!
//! ```text
//! OVERNIGHT_TORTURE_SEED=… OVERNIGHT_TORTURE_ROUNDS=1 cargo test --test torture
//! ```

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../points/books.rs"]
mod books;
mod plan;
mod round;
#[path = "../points/site.rs"]
#[expect(dead_code, reason = "points that are numbered are for the other test")]
mod site;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use plan::Plan;
use round::Tally;

/// Rounds, where nobody says how many.
const ROUNDS: u64 = 200;
/// Rounds that go on side by side: mostly they wait.
const SIDE_BY_SIDE: usize = 12;

fn asked(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "how a person asks for other rounds")]
    let asked = std::env::var(name).ok();
    asked.map(|asked| asked.parse().unwrap())
}

#[test]
fn a_project_keeps_its_promises_whenever_it_is_killed() {
    let seed = asked("OVERNIGHT_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let rounds = asked("OVERNIGHT_TORTURE_ROUNDS").unwrap_or(ROUNDS);
    println!("{rounds} rounds from OVERNIGHT_TORTURE_SEED={seed}");
    let (next, failed, tally) = (AtomicU64::new(0), AtomicUsize::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while failed.load(Ordering::SeqCst) == 0 {
                    let nth = next.fetch_add(1, Ordering::SeqCst);
                    if nth >= rounds {
                        return;
                    }
                    let plan = Plan::draw(seed + nth);
                    let round = AssertUnwindSafe(|| round::carry_out(&plan, &tally));
                    if let Err(panic) = catch_unwind(round) {
                        failed.fetch_add(1, Ordering::SeqCst);
                        println!("OVERNIGHT_TORTURE_SEED={} failed: {plan:#?}", plan.seed);
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
    println!("{tally}");
    if rounds >= ROUNDS {
        let kills = tally.kills();
        assert!(kills >= 2 * rounds, "only {kills} processes were killed before they ended");
    }
}
