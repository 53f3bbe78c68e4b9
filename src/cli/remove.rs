//! `overnight remove`: rows leave the table. What was bought for them stays on record.

use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::rows::{self, Wording};
use super::text::{count, thousands};
use crate::engine::Clock;
use crate::store::RemoveReport;

/// Take rows out of the table, one by one or all of a file; what was bought for them stays on record.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight remove review-17
  overnight remove '#12' '#13'        in quotes: a bare # starts a comment
  overnight remove reviews.csv        all rows that came from this file

Where one name is unknown, nothing is removed. Adding the file again, with the
same --key, brings its rows back with their answers.")]
pub(crate) struct Args {
    /// What leaves: a row by its key or as '#POSITION', or a source by its path as `status` shows it;
    /// where a name could be several of these, the first counts.
    #[arg(value_name = "SOURCE|ROW", required = true)]
    names: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut store = context.open()?;
    let (report, unknown) = store.remove(&args.names, Clock::now())?;
    if !unknown.is_empty() {
        let wording = Wording {
            command: "remove",
            thing: "row or source",
            others: store.sources()?.into_iter().map(|source| source.path).collect(),
            consequence: "nothing was removed",
        };
        return Err(rows::unknown(&store, &unknown, &wording, context)?);
    }
    if context.out.is_json() {
        context.out.json(&Json { removed: report.removed, answered: report.answered })?;
    }
    context.out.say(&words(report));
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Json {
    removed: u64,
    answered: u64,
}

fn words(report: RemoveReport) -> String {
    let removed = format!("{} left the table", count(report.removed, "row"));
    match (report.answered, report.removed) {
        (0, _) => removed,
        (1, 1) => format!("{removed}; its answer stays on record"),
        (answered, _) if answered == report.removed => {
            format!("{removed}; their answers stay on record")
        }
        (1, _) => format!("{removed}; the answer of 1 of them stays on record"),
        (answered, _) => {
            format!("{removed}; the answers of {} of them stay on record", thousands(answered))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Call, Fixture, START};

    fn remove(fixture: &mut Fixture, names: &[&str]) -> (RemoveReport, Vec<String>) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        fixture.store().remove(&names, START).unwrap()
    }

    fn live(fixture: &mut Fixture) -> u64 {
        fixture.store().live_rows().unwrap()
    }

    #[test]
    fn rows_leave_by_key_and_by_position_and_sources_by_path() {
        let mut fixture = Fixture::with_rows(4);
        fixture.add("more.csv", &["m1", "m2"]);
        assert_eq!(remove(&mut fixture, &["r1", "#2"]).0.removed, 2);
        assert_eq!(remove(&mut fixture, &["more.csv"]).0.removed, 2);
        assert_eq!(live(&mut fixture), 2);
    }

    #[test]
    fn a_key_wins_over_a_position_and_takes_no_other_row_with_it() {
        let mut fixture = Fixture::with_rows(2);
        fixture.add("odd.csv", &["#1"]);
        assert_eq!(remove(&mut fixture, &["#1"]).0.removed, 1);
        assert!(fixture.store().find_row("r1").unwrap().is_some());
    }

    #[test]
    fn a_row_and_its_source_named_together_are_no_contradiction() {
        let mut fixture = Fixture::with_rows(3);
        let (report, unknown) = remove(&mut fixture, &["reviews.csv", "r2", "r2"]);
        assert_eq!((report.removed, unknown.len()), (3, 0));
    }

    #[test]
    fn nothing_leaves_where_one_name_is_unknown() {
        let mut fixture = Fixture::with_rows(2);
        let names = ["r1", "review.csv", "nobody"].map(str::to_owned).to_vec();
        let failure = run(Args { names }, &fixture.context()).unwrap_err();
        let words = anstream::adapter::strip_str(&failure.words().unwrap()).to_string();
        assert_eq!(failure.exit, Exit::Error);
        assert!(
            words.starts_with(
                "error: there is no row or source \"review.csv\", nor 1 other name; nothing was removed\n"
            ),
            "{words}"
        );
        assert!(words.contains("remove reviews.csv`?\n"), "{words}");
        assert_eq!(live(&mut fixture), 2);
    }

    #[test]
    fn an_answer_stays_and_comes_back_with_its_row() {
        let mut fixture = Fixture::with_rows(2);
        let sent = fixture.send(&Call::new("r1", "label"));
        fixture.answer(sent, "positive");
        let (report, _) = remove(&mut fixture, &["reviews.csv"]);
        assert_eq!(report, RemoveReport { removed: 2, answered: 1 });
        assert_eq!(words(report), "2 rows left the table; the answer of 1 of them stays on record");
        assert_eq!(fixture.store().state_counts(false).unwrap().answered, 0);
        assert_eq!(fixture.add("reviews.csv", &["r1", "r2"]).returned, 2);
        assert_eq!(fixture.store().state_counts(false).unwrap().answered, 1);
    }

    #[test]
    fn what_stays_is_said_in_the_right_number() {
        let said = |removed, answered| words(RemoveReport { removed, answered });
        assert_eq!(said(1, 0), "1 row left the table");
        assert_eq!(said(1, 1), "1 row left the table; its answer stays on record");
        assert_eq!(said(2, 2), "2 rows left the table; their answers stay on record");
        assert_eq!(said(3, 2), "3 rows left the table; the answers of 2 of them stay on record");
    }
}
