//! Many batches at a provider where everything goes wrong now and then, and a run that is killed.

use std::time::Duration;

use crate::shop::{Shop, texts};
use crate::support::Said;
use crate::support::batches::runs::query;

/// Everything that can go wrong with files, batches, their lines and their results, but for what makes a run wait
/// for a second.
const EVERYTHING: &str = "upload_500=0.05,upload_lost=0.05,create_500=0.05,create_404=0.05,create_lost=0.05,\
    batch_failed=0.05,batch_broken=0.05,batch_expired=0.05,batch_cancelled=0.05,batch_vanished=0.05,batch_stuck=0.05,\
    result_emptyid=0.05,result_emptyfile=0.05,result_counts=0.05,\
    line_429=0.05,line_500=0.05,line_missing=0.05,line_doubled=0.05,line_unknown=0.05,line_garbled=0.05,\
    line_separator=0.05,line_both=0.05,poll_500=0.05,content_404=0.05,content_500=0.05,content_cut=0.05";

const RUN: &[&str] = &["--batch-size", "50"];

/// Demands that a run that came to an early end had one of the two reasons that there may be here: by chance three
/// batches in a row did nothing at all, or the results of one could not be read ten times in a row, which leaves them
/// to the next run (after four hours with the usual polls, after five seconds with the short ones of these tests).
#[track_caller]
fn had_bad_luck(said: &Said) {
    let has_a_reason = match said.code {
        Some(1) => said.stderr.contains("in a row failed as a whole"),
        Some(4) => said.stderr.contains("not read to the end: "),
        _ => false,
    };
    assert!(has_a_reason, "{said:#?}");
}

/// Runs until one of the ledger's totals has come to `count`, and kills it there.
fn killed_at(shop: &Shop, (total, count): (&str, u64)) {
    let mut running = shop.start(RUN);
    for _ in 0..6000 {
        if running.is_over() {
            had_bad_luck(&running.end());
            running = shop.start(RUN);
        }
        if shop.total(total) >= count {
            return running.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it does not come to {count} {total}");
}

/// Runs until all is done.
fn goes_on(shop: &Shop) {
    for _ in 0..10 {
        let said = shop.run(RUN);
        if said.code == Some(0) {
            return;
        }
        had_bad_luck(&said);
    }
    panic!("it does not come to an end");
}

#[test]
fn two_thousand_rows_in_forty_batches_survive_everything_and_two_kills() {
    let init = ["--prompt", "Say: {{ text }}", "--max-attempts", "12"];
    let shop = Shop::open(&texts(2000, 2), &["--seed", "5", "--faults", EVERYTHING], &init);
    // In the middle of creating, and in the middle of collecting.
    killed_at(&shop, ("batches_created", 15));
    killed_at(&shop, ("batch_charged_requests", 1500));
    let status = shop.folder.status();
    assert_eq!(status["requests"]["in_doubt"], 0, "a batch can be looked up: {status}");
    goes_on(&shop);
    shop.balances();
    shop.all_answered();
    let struck = shop.simulator.ledger()["totals"]["faults"].as_object().unwrap().len();
    assert!(struck >= 20, "of 26 kinds of faults only {struck} have struck");
    assert!(shop.total("batches_created") >= 40);

    // A line is charged again only where its result could not be read the first time.
    let unreadable: u64 = ["line_missing", "line_unknown", "line_garbled"]
        .map(|fault| shop.struck(fault))
        .iter()
        .sum();
    assert_eq!(shop.total("charged_requests"), 2000 + unreadable);
    let twice = query(
        &shop.folder,
        "SELECT request_id FROM attempt WHERE outcome = 'answered' GROUP BY 1 HAVING count(*) > 1",
    );
    assert!(twice.is_empty(), "answered twice: {twice:?}");
}
