//! The real thing: two processes and a socket between them, for some seconds.
//!
//! The clock on the wall runs here, on a machine that has other things to do; so little is demanded of the rate, and all
//! of the refusals.

use std::time::{Duration, Instant};

use crate::support::{Folder, Simulator, table};

#[test]
fn the_binary_keeps_to_the_rate_of_a_server() {
    let folder = Folder::new();
    let limits = ["--rpm", "1200", "--latency", "50ms"];
    let simulator = Simulator::start(&folder, &limits);
    folder.write("reviews.csv", table(1_500));
    let init = ["init", "--prompt", "Sum up: {{ review }}", "--model", "gpt-4o-mini", "--base-url"];
    folder.ok(&[&init[..], &[simulator.base_url()]].concat());
    folder.ok(&["add", "reviews.csv", "--key", "id"]);
    let started = Instant::now();
    folder.ok(&["run", "--route", "realtime", "--limit", "1450"]);
    let took = started.elapsed();
    assert_eq!(simulator.total("charged_requests"), 1_450);
    let refused = refused(&simulator);
    assert!(refused <= 14, "{refused} of 1450 were refused");
    // A minute's worth was waiting; the rest comes in at twenty a second.
    assert!(took >= Duration::from_secs(12), "{took:?}: the server lets through more than it says");
    assert!(took <= Duration::from_secs(25), "{took:?}");

    // The next run knows the rate, and that a minute's worth may not be waiting any more.
    folder.ok(&["run", "--route", "realtime"]);
    assert_eq!(simulator.total("charged_requests"), 1_500);
    let by_now = self::refused(&simulator);
    assert!(by_now <= refused + 1, "{} of 50 were refused", by_now - refused);
}

fn refused(simulator: &Simulator) -> u64 {
    simulator.ledger()["totals"]["errors"]["rate_limit_exceeded"].as_u64().unwrap_or(0)
}
