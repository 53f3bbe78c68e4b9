//! What a person reads: how much was checked, what does not hold, what is in doubt, what was bought twice.

use std::path::Path;

use crate::cli::page::{Page, short};
use crate::cli::text::{count, thousands};
use crate::domain::NanoUsd;
use crate::engine::{AuditReport, Bought, Check, DoubleBuys, Doubts, Finding};

/// How many findings of a check are shown.
pub(super) const SHOWN: usize = 10;

pub(super) fn page(report: &AuditReport, project: &Path) -> String {
    let mut page = Page::new(13);
    let checked = report.checked;
    page.field("project", &format!("{}, format {}", project.display(), report.format));
    let counted = [
        (checked.rows, "row"),
        (checked.prompts, "prompt version"),
        (checked.requests, "request"),
        (checked.attempts, "attempt"),
        (checked.replies, "reply"),
        (checked.batches, "batch"),
    ];
    let counted = counted.map(|(number, one)| count(number, one)).join(", ");
    page.section(
        "checked",
        &[counted, format!("{} bytes of bodies and replies", thousands(checked.bytes))],
    );
    page.section("in doubt", &doubts(&report.doubts));
    page.section("bought twice", &double_buys(&report.double_buys));
    if report.other_prices > 0 {
        let words = format!(
            "{} at a price that this program does not know, which is nothing wrong",
            count(report.other_prices, "attempt")
        );
        page.field("prices", &words);
    }
    let total = report.total();
    if total == 0 {
        page.field("result", "everything holds");
    } else {
        page.field(
            "result",
            &format!(
                "{} not hold",
                if total == 1 {
                    "1 thing does".to_owned()
                } else {
                    format!("{} things do", thousands(total))
                }
            ),
        );
    }
    for (check, found) in &report.counts {
        findings(&mut page, (*check, *found), &report.findings);
    }
    page.into_text()
}

fn findings(page: &mut Page, (check, total): (Check, u64), all: &[Finding]) {
    page.gap();
    page.indent(0);
    page.line(&format!("{} ({})", check.as_str(), thousands(total)));
    page.indent(2);
    let mine = all.iter().filter(|finding| finding.check == check).take(SHOWN);
    let mut shown = 0;
    for finding in mine {
        page.line(&line(finding));
        shown += 1;
    }
    if total > shown {
        page.line(&format!("… and {} more", thousands(total - shown)));
    }
    page.indent(0);
}

fn line(finding: &Finding) -> String {
    let mut of = Vec::new();
    if let Some(row) = &finding.row {
        let position = row.position.map(|position| format!("#{position}"));
        let key = row.key.as_deref().map(|key| format!("({})", short(key)));
        let named: Vec<String> = position.into_iter().chain(key).collect();
        of.push(format!("row {}", named.join(" ")));
    }
    of.extend(finding.prompt.as_ref().map(|prompt| format!("prompt {}", short(prompt))));
    of.extend(finding.request.map(|request| format!("request {request}")));
    of.extend(finding.attempt.map(|attempt| format!("attempt {attempt}")));
    of.extend(finding.batch.map(|batch| format!("batch {batch}")));
    let message = short(&finding.message);
    if of.is_empty() { message } else { format!("{}: {message}", of.join(", ")) }
}

fn doubts(doubts: &Doubts) -> Vec<String> {
    let cost = match doubts.cost_nanousd {
        Some(cost) => format!("these may have cost {}", NanoUsd(cost)),
        None => "what these may have cost is not known".to_owned(),
    };
    let mut lines = Vec::new();
    if doubts.in_doubt > 0 {
        lines.push(format!(
            "{} may have been sent and {} no reply on record",
            count(doubts.in_doubt, "request"),
            if doubts.in_doubt == 1 { "has" } else { "have" }
        ));
    }
    if doubts.sent_again > 0 {
        lines.push(format!(
            "{} in doubt, after which the request was sent again",
            count(doubts.sent_again, "attempt")
        ));
    }
    if lines.is_empty() {
        return vec!["nothing".to_owned()];
    }
    lines.push(cost);
    lines
}

fn double_buys(buys: &DoubleBuys) -> Vec<String> {
    let twins = Bought {
        requests: u64::try_from(buys.twins.requests).unwrap_or_default(),
        attempts: u64::try_from(buys.twins.requests).unwrap_or_default(),
        cost_nanousd: buys.twins.cost_nanousd,
        unpriced: u64::try_from(buys.twins.unpriced).unwrap_or_default(),
    };
    let kinds = [
        (buys.tried_again, "cut or not accepted, and asked for again"),
        (buys.asked_again, "replaced by a later one, after an answer"),
        (twins, "bought although another request has the same body"),
        (buys.strays, "in results that no request waits for"),
    ];
    let lines: Vec<String> = kinds
        .into_iter()
        .filter(|(bought, _)| bought.attempts > 0)
        .map(|(bought, what)| {
            format!("{} {what}: {}", count(bought.attempts, "reply"), cost(bought))
        })
        .collect();
    if lines.is_empty() { vec!["nothing".to_owned()] } else { lines }
}

fn cost(bought: Bought) -> String {
    match (bought.unpriced, bought.cost_nanousd) {
        (0, cost) => NanoUsd(cost).to_string(),
        (_, 0) => "cost not known".to_owned(),
        (unpriced, cost) => {
            format!("{}, and {} of unknown cost", NanoUsd(cost), thousands(unpriced))
        }
    }
}
