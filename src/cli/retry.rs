//! `overnight retry`: a person asks for another try. It sends nothing; `overnight run` does.

use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::rows::{self, Wording};
use super::text::{count, thousands, whole};
use crate::domain::FailureClass;
use crate::engine::Clock;
use crate::machine::closest::closest;
use crate::store::{Reopened, RetryFilter, RunLock, Store};

/// Make requests due again: those that failed, were cut, are in doubt, or belong to some rows.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight retry --failed
  overnight retry --class content_filtered --class refused
  overnight retry --truncated --max-tokens 2000
  overnight retry --rows review-17 '#12'     answered ones are paid for again

Nothing is sent before the next `overnight run`. What was bought stays on record.")]
pub(crate) struct Args {
    /// Retry all requests that failed.
    #[arg(long)]
    failed: bool,
    /// Retry all requests whose reply was cut by the token limit.
    #[arg(long)]
    truncated: bool,
    /// Retry all requests that failed with this class; may be given several times.
    #[arg(long, value_name = "CLASS")]
    class: Vec<String>,
    /// Retry all requests that may have been sent and have no reply on record; they may be billed twice.
    #[arg(long)]
    in_doubt: bool,
    /// Retry all requests of these rows, answered ones too; a row is named by its key or as '#POSITION'.
    #[arg(long, value_name = "ROW", num_args = 1..)]
    rows: Vec<String>,
    /// Send them with this token limit, which may be more than the prompt's own.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    max_tokens: Option<u32>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let filter = filter(&args)?;
    let mut store = context.open()?;
    recover(&mut store, context)?;
    let done = store.retry(&filter, args.max_tokens, Clock::now())?;
    if !done.unknown.is_empty() {
        let wording = Wording {
            command: "retry --rows",
            thing: "row",
            others: Vec::new(),
            consequence: "nothing was changed",
        };
        return Err(rows::unknown(&store, &done.unknown, &wording, context)?);
    }
    if context.out.is_json() {
        let json =
            Json { requests: done.requests, answered: done.answered, under_way: done.under_way };
        context.out.json(&json)?;
    }
    let words = words(&done, args.max_tokens, &context.program());
    words.said.iter().for_each(|line| context.out.say(line));
    words.warned.iter().for_each(|line| context.out.warn(line));
    words.hinted.iter().for_each(|line| context.out.hint(line));
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Json {
    requests: u64,
    answered: u64,
    under_way: u64,
}

/// Reads which requests are meant; there has to be a word on it.
fn filter(args: &Args) -> Result<RetryFilter, Failure> {
    if !(args.failed || args.truncated || args.in_doubt)
        && args.class.is_empty()
        && args.rows.is_empty()
    {
        return Err(Failure::usage("retry has to be told which requests are meant").hint(
            "--failed, --truncated, --in-doubt, --class CLASS, --rows ROW…; several add up",
        ));
    }
    if let Some(unheard) = args.class.iter().find(|word| FailureClass::parse(word).is_none()) {
        return Err(unknown_class(unheard));
    }
    Ok(RetryFilter {
        failed: args.failed,
        truncated: args.truncated,
        in_doubt: args.in_doubt,
        classes: args.class.clone(),
        rows: args.rows.clone(),
    })
}

fn unknown_class(word: &str) -> Failure {
    let classes = FailureClass::ALL.map(FailureClass::as_str);
    let failure = Failure::usage(format!("there is no failure class {word:?}"));
    let failure = match closest(&word.replace('-', "_"), classes) {
        Some(near) => failure.hint(format!("did you mean `--class {near}`?")),
        None => failure,
    };
    failure.hint(format!("the classes are {}", classes.join(", ")))
}

/// Puts what a crashed run left in doubt, so that it can be asked for. While a run is on, its promises
/// are its own.
fn recover(store: &mut Store, context: &Context) -> Result<(), Failure> {
    let lock = RunLock::take(&context.project)?;
    if lock.is_some() {
        store.recover(Clock::now())?;
    }
    Ok(())
}

/// What is told of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    said: Vec<String>,
    warned: Vec<String>,
    hinted: Vec<String>,
}

fn words(done: &Reopened, max_tokens: Option<u32>, program: &str) -> Words {
    let mut words = Words::default();
    if done.under_way > 0 {
        words.said.push(format!(
            "{} left alone, because an attempt is under way",
            are(done.under_way, "request")
        ));
    }
    if done.requests == 0 {
        if done.under_way == 0 {
            words.said.push("no request matches; nothing was changed".to_owned());
        }
        return words;
    }
    words.said.push(format!("{} due again", are(done.requests, "request")));
    if done.answered > 0 {
        let have = if done.answered == 1 { "has an answer and is" } else { "have answers and are" };
        words.warned.push(format!(
            "{} {have} paid for again; what was bought stays on record",
            count(done.answered, "request")
        ));
    }
    if done.not_raised > 0 {
        words.warned.push(not_raised(done, max_tokens));
        let more = done.cut_at.map_or("N".to_owned(), |cut| cut.saturating_mul(2).to_string());
        words.hinted.push(format!("`{program} retry … --max-tokens {more}` gives them more room"));
    }
    words
        .hinted
        .push(format!("`{program} run` sends {}", if done.requests == 1 { "it" } else { "them" }));
    words
}

fn not_raised(done: &Reopened, max_tokens: Option<u32>) -> String {
    let limit = match (max_tokens, done.cut_at) {
        (Some(asked), Some(cut)) => {
            format!(
                "{} is no more than the {} tokens",
                thousands(asked.into()),
                thousands(cut.into())
            )
        }
        (None, Some(cut)) => format!("the limit is still the {} tokens", thousands(cut.into())),
        (_, None) => "the limit is still the one".to_owned(),
    };
    let replies = count(done.not_raised, "reply");
    format!(
        "{limit} at which {replies} of them {} cut",
        if done.not_raised == 1 { "was" } else { "were" }
    )
}

/// Returns `1 request is`, `2 requests are`.
fn are(number: u64, one: &str) -> String {
    format!("{} {}", count(number, one), if number == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture::{Call, Fixture, START};
    use crate::domain::State;
    use crate::store::{LockState, StateCounts};

    fn args() -> Args {
        Args {
            failed: false,
            truncated: false,
            class: Vec::new(),
            in_doubt: false,
            rows: Vec::new(),
            max_tokens: None,
        }
    }

    fn counts(fixture: &mut Fixture) -> StateCounts {
        fixture.store().state_counts(true).unwrap()
    }

    fn failure(fixture: &Fixture, args: Args) -> (Exit, String) {
        let failure = run(args, &fixture.context()).unwrap_err();
        let words = anstream::adapter::strip_str(&failure.words().unwrap()).to_string();
        (failure.exit, words)
    }

    fn reopen(fixture: &mut Fixture, args: &Args) -> Reopened {
        fixture.store().retry(&filter(args).unwrap(), args.max_tokens, START).unwrap()
    }

    /// Answered, filtered, timed out, cut at 100 tokens, promised.
    fn mixed() -> Fixture {
        let mut fixture = Fixture::with_rows(6);
        let sent = fixture.send(&Call::new("r1", "label"));
        fixture.answer(sent, "positive");
        let sent = fixture.send(&Call::new("r2", "label"));
        fixture.fail(sent, FailureClass::ContentFiltered, "withheld");
        let sent = fixture.send(&Call::new("r3", "label"));
        fixture.fail(sent, FailureClass::Timeout, "slow");
        let sent = fixture.send(&Call::new("r4", "label"));
        fixture.cut(sent);
        fixture.send(&Call::new("r5", "label"));
        fixture
    }

    #[test]
    fn each_selector_chooses_its_own_and_several_add_up() {
        let cases = [
            (Args { failed: true, ..args() }, 2),
            (Args { truncated: true, ..args() }, 1),
            (Args { class: vec!["timeout".to_owned()], ..args() }, 1),
            (Args { class: vec!["refused".to_owned()], ..args() }, 0),
            (
                Args { failed: true, truncated: true, class: vec!["timeout".to_owned()], ..args() },
                3,
            ),
            (Args { rows: vec!["r1".to_owned(), "#1".to_owned(), "r2".to_owned()], ..args() }, 2),
            (Args { in_doubt: true, ..args() }, 0),
        ];
        for (args, expected) in cases {
            assert_eq!(reopen(&mut mixed(), &args).requests, expected);
        }
    }

    #[test]
    fn what_is_asked_for_is_due_with_its_attempts_counted_anew() {
        let mut fixture = mixed();
        let done = reopen(&mut fixture, &Args { failed: true, ..args() });
        assert_eq!((done.requests, done.answered), (2, 0));
        let counts = counts(&mut fixture);
        assert_eq!((counts.pending, counts.failed(), counts.answered), (3, 0, 1));
        let groups = fixture.store().due_groups(3).unwrap();
        assert!(
            groups
                .iter()
                .all(|(_, group)| group.state != State::Pending || group.attempts_used == 0)
        );
    }

    #[test]
    fn nothing_moves_where_one_row_is_unknown() {
        let mut fixture = mixed();
        let before = counts(&mut fixture);
        let typo = Args { failed: true, rows: vec!["r1".to_owned(), "r9x".to_owned()], ..args() };
        let (exit, words) = failure(&fixture, typo);
        assert_eq!(exit, Exit::Error);
        assert!(
            words.starts_with("error: there is no row \"r9x\"; nothing was changed\n"),
            "{words}"
        );
        let after = fixture.store().state_counts(false).unwrap();
        assert_eq!((after.pending, after.failed()), (before.pending, before.failed()));
        assert_eq!(after.answered, before.answered);
    }

    #[test]
    fn what_a_crash_left_can_be_asked_for() {
        let mut fixture = mixed();
        assert_eq!(run(Args { in_doubt: true, ..args() }, &fixture.context()).unwrap(), Exit::Done);
        let counts = counts(&mut fixture);
        assert_eq!((counts.in_flight, counts.in_doubt, counts.pending), (0, 0, 2));
        assert_eq!(RunLock::look(&fixture.path()), LockState::Idle, "the lock is given back");
    }

    #[test]
    fn what_a_run_has_in_flight_is_left_alone() {
        let mut fixture = mixed();
        let lock = RunLock::take(&fixture.path()).unwrap().unwrap();
        let rows = Args { in_doubt: true, rows: vec!["r5".to_owned()], ..args() };
        assert_eq!(run(rows, &fixture.context()).unwrap(), Exit::Done);
        assert_eq!(counts(&mut fixture).in_flight, 1);
        drop(lock);
        let done = Reopened { under_way: 1, ..Reopened::default() };
        assert_eq!(
            words(&done, None, "overnight").said,
            ["1 request is left alone, because an attempt is under way"]
        );
    }

    #[test]
    fn an_answer_that_is_asked_for_anew_is_paid_for_again_and_kept() {
        let mut fixture = mixed();
        let done = reopen(&mut fixture, &Args { rows: vec!["r1".to_owned()], ..args() });
        assert_eq!((done.requests, done.answered), (1, 1));
        assert_eq!(
            words(&done, None, "overnight"),
            Words {
                said: vec!["1 request is due again".to_owned()],
                warned: vec![
                    "1 request has an answer and is paid for again; what was bought stays on record"
                        .to_owned()
                ],
                hinted: vec!["`overnight run` sends it".to_owned()],
            }
        );
        let row = fixture.store().find_row("r1").unwrap().unwrap().id;
        let prompt = fixture.store().live_prompts().unwrap()[0].id;
        let trail = fixture.store().trail(row, prompt).unwrap().unwrap();
        assert_eq!(trail.attempts[0].answer.as_deref(), Some("positive"));
    }

    #[test]
    fn a_cut_reply_without_more_room_is_worth_a_warning() {
        let warned = |max_tokens| {
            let args = Args { truncated: true, max_tokens, ..args() };
            let done = reopen(&mut mixed(), &args);
            words(&done, max_tokens, "overnight").warned
        };
        assert_eq!(
            warned(None),
            ["the limit is still the 100 tokens at which 1 reply of them was cut"]
        );
        assert_eq!(
            warned(Some(80)),
            ["80 is no more than the 100 tokens at which 1 reply of them was cut"]
        );
        assert!(warned(Some(101)).is_empty());
    }

    #[test]
    fn a_new_token_limit_is_what_the_next_attempt_is_sent_with() {
        let mut fixture = mixed();
        reopen(&mut fixture, &Args { truncated: true, max_tokens: Some(900), ..args() });
        let groups = fixture.store().due_groups(3).unwrap();
        assert!(groups.iter().any(|(_, group)| group.max_tokens == Some(900) && group.count == 1));
    }

    #[test]
    fn a_retry_of_nothing_and_of_an_unheard_class_is_wrong_usage() {
        let fixture = Fixture::with_rows(1);
        let (exit, words) = failure(&fixture, Args { max_tokens: Some(5), ..args() });
        assert_eq!(exit, Exit::Usage);
        assert!(
            words.contains("hint: --failed, --truncated, --in-doubt, --class CLASS"),
            "{words}"
        );
        let rate = Args { class: vec!["rate-limit".to_owned()], ..args() };
        let (exit, words) = failure(&fixture, rate);
        assert_eq!(exit, Exit::Usage);
        assert!(words.contains("hint: did you mean `--class rate_limited`?\n"), "{words}");
        assert!(words.contains("hint: the classes are rate_limited, overloaded,"), "{words}");
    }

    #[test]
    fn zero_matches_are_no_error() {
        let fixture = Fixture::with_rows(1);
        assert_eq!(run(Args { failed: true, ..args() }, &fixture.context()).unwrap(), Exit::Done);
        assert_eq!(
            words(&Reopened::default(), None, "overnight").said,
            ["no request matches; nothing was changed"]
        );
    }
}
