//! Each fault of files, batches, lines and results, and what it costs.

use crate::shop::Shop;

/// A run of twelve rows in batches of four that meets these faults and answers everything.
fn meets(faults: &str) -> Shop {
    let shop = Shop::of(12, &["--faults", faults]);
    shop.run(&["--batch-size", "4"]).ends(0);
    for fault in faults.split(',').map(|fault| fault.split('=').next().unwrap()) {
        assert!(shop.struck(fault) > 0, "{fault} never struck");
    }
    shop.all_answered();
    shop
}

#[test]
fn lost_and_refused_uploads_and_creates_make_no_batch_twice() {
    for faults in [
        "upload_lost=first:2",
        "create_lost=first:2",
        "upload_lost=every:1,create_lost=every:1",
        "upload_500=first:2,create_500=first:2",
        "create_429=first:1,create_404=every:3",
        "upload_lost=every:2,upload_500=every:3,create_500=every:2,create_lost=every:3",
    ] {
        let shop = meets(faults);
        shop.each_charged_once();
        shop.balances_to_the_token();
        assert_eq!(shop.total("batches_created"), 3, "{faults}");
        assert_eq!(shop.total("files_uploaded"), 3, "{faults}");
    }
}

#[test]
fn what_a_batch_did_before_it_ended_badly_is_kept_and_only_the_rest_is_sent_again() {
    for (fault, batches, class) in [
        ("batch_expired", 4, "batch_expired"),
        ("batch_failed", 4, "batch_failed"),
        ("batch_cancelled", 4, "batch_cancelled"),
        ("batch_broken", 4, "batch_failed"),
        ("batch_vanished", 4, "batch_cancelled"),
        ("batch_stuck", 3, ""),
    ] {
        let shop = meets(&format!("{fault}=first:1"));
        shop.each_charged_once();
        shop.balances_to_the_token();
        assert_eq!(shop.total("batches_created"), batches, "{fault}");
        let failed = "SELECT count(*) FROM attempt WHERE outcome = 'failed'";
        let left = match fault {
            "batch_stuck" => 0,
            // Nothing of these was done.
            "batch_failed" | "batch_vanished" => 4,
            _ => 2,
        };
        assert_eq!(shop.number(failed), left, "{fault}");
        let so = format!("{failed} AND error_class = '{class}'");
        assert_eq!(shop.number(&so), left, "{fault}");
    }
}

#[test]
fn a_line_that_went_wrong_costs_that_line() {
    // Of four lines: how often they are charged, what is put with the strays, and how they failed.
    for (fault, charged, strays, class) in [
        ("line_missing", 2, 0, "missing_from_batch"),
        ("line_doubled", 1, 4, ""),
        ("line_unknown", 2, 4, "missing_from_batch"),
        ("line_garbled", 2, 0, "malformed_reply"),
        ("line_separator", 1, 0, ""),
        ("line_both", 1, 4, ""),
        ("line_429", 1, 0, "rate_limited"),
        ("line_500", 1, 0, "server_error"),
    ] {
        let shop = meets(&format!("{fault}=first:4"));
        shop.balances();
        assert_eq!(shop.struck(fault), 4);
        assert_eq!(shop.total("charged_requests"), 8 + 4 * charged, "{fault}");
        assert_eq!(shop.number("SELECT count(*) FROM stray_line"), strays, "{fault}");
        let failed = format!("SELECT count(*) FROM attempt WHERE error_class = '{class}'");
        assert_eq!(shop.number(&failed), if class.is_empty() { 0 } else { 4 }, "{fault}");
        let failed = "SELECT count(*) FROM attempt WHERE outcome = 'failed'";
        assert_eq!(shop.number(failed), if class.is_empty() { 0 } else { 4 }, "{fault}");
        if charged == 1 {
            shop.each_charged_once();
            shop.balances_to_the_token();
        }
    }
}

#[test]
fn results_that_cannot_be_had_at_once_are_asked_for_again_and_never_bought_again() {
    for faults in [
        "content_404=first:2",
        "content_500=first:2",
        "content_cut=first:3",
        "content_404=every:3,content_500=every:4,content_cut=every:2",
        "poll_500=every:3,poll_429=first:1",
        "result_emptyid=1",
        "result_emptyfile=1",
        "result_counts=1",
    ] {
        let shop = meets(faults);
        shop.each_charged_once();
        shop.balances_to_the_token();
        assert_eq!(shop.total("batches_created"), 3, "{faults}");
        assert_eq!(shop.total("files_uploaded"), 3, "{faults}");
    }
}
