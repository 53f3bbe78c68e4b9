//! What a script reads. Keys are only ever added, after those that are there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::domain::NanoUsd;
use crate::engine::{AuditReport, Bought, Finding};

#[derive(Serialize)]
pub(super) struct Json<'a> {
    project: String,
    ok: bool,
    format: i64,
    checked: Checked,
    /// At most so many a check; `findings_total` counts all.
    findings: &'a [Finding],
    findings_total: u64,
    findings_by_check: BTreeMap<&'static str, u64>,
    doubts: Doubts,
    double_buys: DoubleBuys,
    /// Attempts at a price that this program does not know; nothing wrong.
    other_prices: u64,
    took_ms: u64,
}

#[derive(Serialize)]
struct Checked {
    rows: u64,
    prompts: u64,
    requests: u64,
    attempts: u64,
    replies: u64,
    batches: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Doubts {
    in_doubt: u64,
    sent_again: u64,
    /// What these may have cost; `null` where nothing tells.
    cost_usd: Option<f64>,
}

#[derive(Serialize)]
struct DoubleBuys {
    /// Requests that were paid for more than once, of all kinds.
    requests: u64,
    /// `null` where the cost of some is not known.
    cost_usd: Option<f64>,
    tried_again: Kind,
    asked_again: Kind,
    twins: Kind,
    strays: Kind,
}

#[derive(Serialize)]
struct Kind {
    requests: u64,
    replies: u64,
    cost_usd: Option<f64>,
}

impl Kind {
    fn of(bought: Bought) -> Self {
        let cost_usd = (bought.unpriced == 0).then(|| NanoUsd(bought.cost_nanousd).usd());
        Self { requests: bought.requests, replies: bought.attempts, cost_usd }
    }
}

pub(super) fn json<'a>(report: &'a AuditReport, project: &Path, took: Duration) -> Json<'a> {
    let checked = report.checked;
    let buys = report.double_buys;
    let twins = Bought {
        requests: u64::try_from(buys.twins.requests).unwrap_or_default(),
        attempts: u64::try_from(buys.twins.requests).unwrap_or_default(),
        cost_nanousd: buys.twins.cost_nanousd,
        unpriced: u64::try_from(buys.twins.unpriced).unwrap_or_default(),
    };
    let kinds = [buys.tried_again, buys.asked_again, twins, buys.strays];
    let is_priced = kinds.iter().all(|kind| kind.unpriced == 0);
    let cost = kinds.iter().map(|kind| kind.cost_nanousd).fold(0, i64::saturating_add);
    Json {
        project: project.display().to_string(),
        ok: report.total() == 0,
        format: report.format,
        checked: Checked {
            rows: checked.rows,
            prompts: checked.prompts,
            requests: checked.requests,
            attempts: checked.attempts,
            replies: checked.replies,
            batches: checked.batches,
            bytes: checked.bytes,
        },
        findings: &report.findings,
        findings_total: report.total(),
        findings_by_check: report
            .counts
            .iter()
            .map(|(check, count)| (check.as_str(), *count))
            .collect(),
        doubts: Doubts {
            in_doubt: report.doubts.in_doubt,
            sent_again: report.doubts.sent_again,
            cost_usd: report.doubts.cost_nanousd.map(|cost| NanoUsd(cost).usd()),
        },
        double_buys: DoubleBuys {
            requests: kinds.iter().map(|kind| kind.requests).sum(),
            cost_usd: is_priced.then(|| NanoUsd(cost).usd()),
            tried_again: Kind::of(buys.tried_again),
            asked_again: Kind::of(buys.asked_again),
            twins: Kind::of(twins),
            strays: Kind::of(buys.strays),
        },
        other_prices: report.other_prices,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
