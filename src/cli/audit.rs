//! `overnight audit`: works everything on record out a second time, and tells what does not come out the same.
//!
//! It asks nobody, changes nothing (an old file stays of its format) and sends nothing. The report is what was
//! asked for, so it goes to stdout whatever it says; the exit code says whether all holds.

mod json;
mod page;

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Context;
use super::failure::{Exit, Failure};
use super::prices::PriceBook;
use super::tasks;
use crate::engine::{AuditPlan, AuditReport, Clock, audit};
use crate::machine::request::{InDoubtPolicy, Policy};
use crate::store::PromptRecord;

/// Check everything on record: bodies, replies, answers, states, sums, money; count doubts and double buys.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight audit
  overnight audit --json | jq .ok
  overnight audit --json | jq '.findings[] | {check, request, message}'
  overnight -p backup.db audit

Every body is rendered again from its prompt and row and compared with the bytes on record and
their fingerprint; every reply is read again and compared with the answer, tokens and error on
record; every state and sum is worked out again from the attempts. Nothing is changed, an older
file stays as it is, and a run may be on meanwhile.

Doubts and double buys that the rules permit are counted and are nothing wrong: requests that may
have been sent before a crash, replies that were cut and asked for again with more tokens. A
request with an answer that was sent again without a person's asking is.

Checks, as --json names them:
  file         SQLite cannot read the file, or finds it unsound
  schema       a table, index or view is missing or is not ours
  link         a number names what is not there, or rows of a table are gone
  migration    the migrations on record are not those of the format
  project, source, row, prompt, run
               such a line contradicts itself or those that belong to it
  body         a body cannot be unpacked, or has another size
  fingerprint  a body is not the one that was fingerprinted
  rendering    a prompt and a row give another body than the one on record
  attempt      an attempt contradicts itself, or those beside it
  reply        a reply cannot be unpacked, is missing, or is for another attempt
  reading      a reply says something else than what is on record of it
  state        a request's state is not the one that its attempts come to
  sums         counts, tokens or money are not those of the attempts
  cost         a cost is not the one of its tokens
  resent       a request with an answer was sent again, nobody having asked
  batch        a batch contradicts its requests, or what the provider said of it
  stray        a line that settled nothing is not what it is said to be
  time         a time cannot be

Exit codes: 0 all holds, 3 something does not hold, 1 the file cannot be read at all.")]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, context: &Context) -> Result<Exit, Failure> {
    let clock = Clock::start();
    let bar = Mutex::new(bar(context));
    let progress = |done, all| {
        if let Ok(Some(bar)) = bar.lock().as_deref() {
            bar.set_length(all);
            bar.set_position(done);
        }
    };
    // A run says what it paid; this is for those of versions that did not.
    let book = PriceBook::bundled();
    let make = |prompt: &PromptRecord| {
        // Nothing is sent, so nothing is due.
        let policy =
            Policy { max_attempts: 1, max_tokens_limit: None, in_doubt: InDoubtPolicy::Hold };
        tasks::parts(prompt, policy, &book).map_err(|failure| failure.line())
    };
    let plan = AuditPlan {
        path: &context.project,
        now: Clock::now(),
        liveness: &|store| context.liveness(store),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        make: &make,
        progress: &progress,
    };
    let report = audit(&plan);
    if let Ok(Some(bar)) = bar.lock().as_deref() {
        bar.finish_and_clear();
    }
    let report = report?;
    if context.out.is_json() {
        context.out.json(&json::json(&report, &context.project, clock.elapsed()))?;
    } else {
        context.out.data(&page::page(&report, &context.project))?;
        hints(&report, context);
    }
    Ok(if report.total() == 0 { Exit::Done } else { Exit::SomeFailed })
}

fn hints(report: &AuditReport, context: &Context) {
    let program = context.program();
    if report.total() > 0 {
        context.out.hint(&format!("`{program} show '#POSITION'` shows the whole trail of a row"));
        context.out.hint("something else has changed the file, or its disk is failing: go on from a copy of the time before");
    }
    if report.findings.len() as u64 > page::SHOWN as u64 * report.counts.len() as u64 {
        context.out.hint(&format!("`{program} audit --json` tells more of them"));
    }
}

/// Shows how far it is on a terminal.
fn bar(context: &Context) -> Option<ProgressBar> {
    use std::io::IsTerminal;
    let wants_bar = !context.out.is_quiet() && std::io::stderr().is_terminal();
    wants_bar.then(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
        if let Ok(style) =
            ProgressStyle::with_template("{bar:24} {pos}/{len} rows and requests checked")
        {
            bar.set_style(style.progress_chars("━━─"));
        }
        bar
    })
}
