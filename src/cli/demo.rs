//! `overnight demo`: the main job on bundled rows and the simulated provider, for somebody to watch.
//!
//! It does nothing itself: it writes two files and runs the commands of this same program on them,
//! as a person would type them. So what is shown is what the commands do, and whoever has watched
//! can do it again. What the simulator is told to do wrong is shown with the command, too. It never touches a folder that has something in it, nor the project that
//! `-p` or `OVERNIGHT_PROJECT` names.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::runtime::Runtime;

use super::failure::{Exit, Failure};
use super::out::Out;
use super::settings::Settings;
use super::simulate::{self, EndSignals};
use super::{Context, shell_word};

/// Show the main job on bundled rows and a simulated model: no key, no network, no cost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight demo
  overnight demo /tmp/try-it

The folder keeps all that the demo made; remove it when you are done.")]
pub(crate) struct Args {
    /// The folder to work in, new or empty; without one, `overnight-demo` or the next free name.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// The table, and the prompt for it.
const FILES: [(&str, &str); 2] = [
    ("reviews.csv", include_str!("../../fixtures/demo/reviews.csv")),
    ("sentiment.prompt", include_str!("../../fixtures/demo/sentiment.prompt")),
];
/// What the last command writes.
const ANSWERS: &str = "answers.csv";
/// The folder, where nobody names one.
const FOLDER: &str = "overnight-demo";

/// A command and why it is there.
struct Step {
    why: &'static str,
    /// How the simulator in the program behaves in this command, where that is not as ever.
    simulator: Option<&'static str>,
    words: &'static [&'static str],
}

impl Step {
    const fn plain(why: &'static str, words: &'static [&'static str]) -> Self {
        Self { why, simulator: None, words }
    }
}

const STEPS: [Step; 10] = [
    Step::plain(
        "Make a project, which is one SQLite file, with a prompt that names its model.",
        &["init", "--prompt", "sentiment.prompt"],
    ),
    Step::plain(
        "Add the table. A row is known by its id, also when the file grows or a cell changes.",
        &["add", "reviews.csv", "--key", "id"],
    ),
    Step::plain(
        "See what a run would send and cost. Nothing is sent yet. By itself, a run takes batches from 500\n\
         requests on: they are half the price, and may take a day with a real provider.",
        &["plan", "--examples", "1"],
    ),
    Step {
        why: "Send it in batches all the same. Each request and each reply is on disk before anything else\n\
              happens to it. Providers let only so many tokens wait in their queue: here it is so small that\n\
              not all rows fit, and the others go by single calls in the same run. The simulator is told to\n\
              withhold some answers.",
        simulator: Some("--faults content_filter=0.02"),
        words: &[
            "run",
            "--route",
            "batch",
            "--batch-size",
            "120",
            "--batch-tokens",
            "22600",
            "--poll",
            "1s",
        ],
    },
    Step::plain(
        "What failed for good is sent again only if you ask; the simulator lets it pass this time.",
        &["retry", "--failed"],
    ),
    Step::plain("Send what is due now.", &["run"]),
    Step::plain(
        "Run again: what has an answer is not sent a second time, so nothing is left to do.",
        &["run"],
    ),
    Step::plain("See where the project stands, and its batches.", &["status"]),
    Step::plain(
        "See how one answer came about: the row, the request, the batch that it was in, the reply.",
        &["show", "R0001"],
    ),
    Step::plain(
        "Write the table with an answer beside every row, and how each one came about.",
        &["export", ANSWERS, "--details"],
    ),
];

/// What is shown of the answers: these columns of these rows, of which some were answered in a batch and some by a call.
const SHOWN_COLUMNS: [&str; 7] =
    ["id", "answer", "state", "route", "batch_id", "attempts", "cost_usd"];
const SHOWN_ROWS: [&str; 4] = ["R0001", "R0103", "R0200", "R0320"];

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let out = context.out;
    let program = std::env::current_exe()
        .map_err(|error| Failure::error("this program cannot find itself").caused_by(&error))?;
    let interrupt = Interrupt::listen()
        .map_err(|error| Failure::error("cannot start the demo").caused_by(&error))?;
    let folder = make_folder(args.folder.as_deref(), Path::new(""))?;
    write_files(&folder)?;
    introduce(&folder, out);
    for step in &STEPS {
        out.say(&format!("\n{}\n\u{1b}[1m$ {}\u{1b}[0m", step.why, typed(step)));
        let status = carry_out(&program, step, (&folder, out));
        let status = status.map_err(|error| {
            Failure::error(format!("cannot run {}", program.display())).caused_by(&error)
        })?;
        if interrupt.came() || ended_by_person(status) {
            out.say(&format!("\nstopped; what the demo made is in {}", folder.display()));
            return Ok(Exit::Interrupted);
        }
        // That some rows fail belongs to what is shown.
        if !status.success() && status.code() != Some(Exit::SomeFailed as i32) {
            let what = format!("the demo stops here: `{}` failed", line(step.words));
            let made = format!("what the demo made is in {}", folder.display());
            return Err(Failure::error(what).hint(made));
        }
    }
    conclude(&folder, &program, context)
}

/// Returns a command as a person types it.
fn typed(step: &Step) -> String {
    let line = line(step.words);
    match step.simulator {
        None => line,
        Some(options) => format!("{}={} \\\n    {line}", simulate::VARIABLE, shell_word(options)),
    }
}

fn line(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| shell_word(word)).collect();
    format!("overnight {}", words.join(" "))
}

/// Makes the folder to work in; `base` is where it is if nobody named one.
fn make_folder(given: Option<&Path>, base: &Path) -> Result<PathBuf, Failure> {
    let folder = match given {
        Some(path) => {
            if !is_free(path) {
                let what = format!("{} is there and is not an empty folder", path.display());
                return Err(Failure::error(what)
                    .hint("`overnight demo NEW_FOLDER` works in a folder that it makes")
                    .hint("`overnight demo` finds a free name by itself"));
            }
            path.to_owned()
        }
        None => free_name(base),
    };
    fs::create_dir_all(&folder).map_err(|error| {
        Failure::error(format!("cannot make the folder {}", folder.display()))
            .caused_by(&error)
            .hint("`overnight demo DIR` works in a folder of your choice")
    })?;
    Ok(folder)
}

fn free_name(base: &Path) -> PathBuf {
    let first = base.join(FOLDER);
    let numbered = (2..1000).map(|number| base.join(format!("{FOLDER}-{number}")));
    // With a thousand demos in one place, the first name fails with a reason.
    std::iter::once(first.clone()).chain(numbered).find(|path| is_free(path)).unwrap_or(first)
}

/// Says whether nothing is there, or a folder with nothing in it.
fn is_free(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn write_files(folder: &Path) -> Result<(), Failure> {
    for (name, text) in FILES {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| {
            Failure::error(format!("cannot write {}", path.display())).caused_by(&error)
        })?;
    }
    Ok(())
}

fn introduce(folder: &Path, out: Out) {
    out.say(
        "This demo puts a table of product reviews through a simulated model: no key, no network, no\n\
         cost. The simulator makes its answers up, so they mean nothing, and its prices are its own;\n\
         all else is as it is with a real model.\n\
         \n\
         The table is reviews.csv, the prompt is sentiment.prompt.",
    );
    let folder = shell_word(&folder.display().to_string());
    out.say(&format!("\u{1b}[1m$ cd {folder}\u{1b}[0m"));
}

/// Runs a step in the folder, on this terminal or whatever stands for it.
fn carry_out(program: &Path, step: &Step, (folder, out): (&Path, Out)) -> io::Result<ExitStatus> {
    let mut command = Command::new(program);
    command.args(step.words).current_dir(folder).stdin(Stdio::null());
    command.env_remove("OVERNIGHT_PROJECT").env_remove(simulate::VARIABLE);
    if let Some(options) = step.simulator {
        command.env(simulate::VARIABLE, options);
    }
    if out.is_quiet() {
        command.arg("--quiet");
    }
    if out.is_json() {
        // Stdout is for the one object at the end.
        command.stdout(io::stderr());
    }
    match anstream::ColorChoice::global() {
        anstream::ColorChoice::Auto => &mut command,
        anstream::ColorChoice::Never => command.arg("--color=never"),
        anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => {
            command.arg("--color=always")
        }
    };
    command.status()
}

fn ended_by_person(status: ExitStatus) -> bool {
    // Without a code a signal ended it, such as the Ctrl-C that this process has heard too.
    status.code().is_none_or(|code| code == Exit::Interrupted as i32)
}

fn conclude(folder: &Path, program: &Path, context: &Context) -> Result<Exit, Failure> {
    let out = context.out;
    let answers = folder.join(ANSWERS);
    let shown = excerpt(&answers).map_err(|error| {
        Failure::error(format!("cannot read {}", answers.display())).caused_by(&error)
    })?;
    if out.is_json() {
        let project = folder.join(super::DEFAULT_PROJECT);
        out.json(&json!({"folder": folder, "project": project, "answers": answers}))?;
        return Ok(Exit::Done);
    }
    out.say(&format!(
        "\nSome columns and rows of {ANSWERS}; its answers were made up and mean nothing:\n"
    ));
    out.data(&shown)?;
    out.say(&next(folder, &call(program, &context.settings)));
    Ok(Exit::Done)
}

/// Returns some columns of some rows, as a table of their own.
fn excerpt(answers: &Path) -> csv::Result<String> {
    let mut table = csv::Reader::from_path(answers)?;
    let header = table.headers()?.clone();
    let columns: Vec<usize> = SHOWN_COLUMNS
        .iter()
        .filter_map(|name| header.iter().position(|column| column == *name))
        .collect();
    let cells = |row: &csv::StringRecord| {
        columns.iter().map(|column| row.get(*column).unwrap_or_default().to_owned()).collect()
    };
    let mut rows: Vec<Vec<String>> = vec![cells(&header)];
    for row in table.records() {
        let row = row?;
        if row.get(0).is_some_and(|id| SHOWN_ROWS.contains(&id)) {
            rows.push(cells(&row));
        }
    }
    let mut text = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| text.write_record(row))?;
    let bytes = text.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns how this program is called from another folder.
fn call(program: &Path, settings: &Settings) -> String {
    let path = settings.get("PATH").unwrap_or_default();
    let name = program.file_name().unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    let is_ours = found.and_then(|path| path.canonicalize().ok()) == program.canonicalize().ok();
    if is_ours { "overnight".to_owned() } else { shell_word(&program.display().to_string()) }
}

/// Says where everything is, and how to go on with a real model.
fn next(folder: &Path, call: &str) -> String {
    let shown = folder.display();
    let alias = match call {
        "overnight" => String::new(),
        path => format!("  alias overnight={path}\n"),
    };
    format!(
        "\n{shown} keeps the table (reviews.csv), the prompt (sentiment.prompt), the project with every\n\
         request and reply (overnight.db) and the answers ({ANSWERS}).\n\
         \n\
         Next, the first 20 rows with a real model, in a project of their own:\n  \
           cd {folder}\n{alias}  \
           export OPENAI_API_KEY=…\n  \
           overnight -p real.db init --prompt sentiment.prompt --model gpt-4.1-mini\n  \
           overnight -p real.db add reviews.csv --key id\n  \
           overnight -p real.db run --limit 20\n  \
           overnight -p real.db export real.csv",
        folder = shell_word(&shown.to_string()),
    )
}

/// Hears Ctrl-C, so that it ends the command under way in its own order and this process after it.
struct Interrupt {
    came: Arc<AtomicBool>,
    _listening: Runtime,
}

impl Interrupt {
    fn listen() -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let came = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&came);
        let inside = runtime.enter();
        let signals = EndSignals::listen()?;
        runtime.spawn(async move {
            signals.wait().await;
            heard.store(true, Ordering::Relaxed);
        });
        drop(inside);
        Ok(Self { came, _listening: runtime })
    }

    fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_free_name_is_found_and_nothing_is_overwritten() {
        let base = tempfile::tempdir().unwrap();
        let made = |expected: &str| {
            let folder = make_folder(None, base.path()).unwrap();
            assert_eq!(folder, base.path().join(expected));
            assert!(folder.is_dir());
            folder
        };
        let first = made("overnight-demo");
        assert_eq!(made("overnight-demo"), first, "an empty folder is used");
        write_files(&first).unwrap();
        assert_eq!(fs::read_to_string(first.join("reviews.csv")).unwrap(), FILES[0].1);
        fs::write(base.path().join("overnight-demo-2"), "a file").unwrap();
        made("overnight-demo-3");
    }

    #[test]
    fn a_folder_by_name_is_made_or_must_be_empty() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("a/b c");
        assert_eq!(make_folder(Some(&deep), Path::new("unused")).unwrap(), deep);
        assert!(make_folder(Some(&deep), Path::new("unused")).is_ok(), "it is empty");
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        for taken in [base.path(), &file] {
            let failure = make_folder(Some(taken), Path::new("unused")).unwrap_err();
            assert!(failure.words().unwrap().contains("is not an empty folder"));
        }
        let below = make_folder(Some(&file.join("below")), Path::new("unused")).unwrap_err();
        assert_eq!(below.exit, Exit::Error);
    }

    #[test]
    fn every_command_that_is_shown_can_be_typed() {
        let parse = |line: &str| {
            let read = Cli::try_parse_from(line.split_whitespace());
            assert!(read.is_ok(), "{line}: {}", read.err().unwrap());
        };
        for step in &STEPS {
            parse(&line(step.words));
            assert!(step.simulator.is_none_or(|options| simulate::embedded(options).is_ok()));
        }
        let told = next(Path::new("overnight-demo"), "overnight");
        let shown: Vec<_> =
            told.lines().filter_map(|line| line.strip_prefix("  overnight ")).collect();
        assert_eq!(shown.len(), 4);
        for line in shown {
            parse(&format!("overnight {line}"));
        }
    }

    #[test]
    fn what_comes_next_is_told_for_a_program_that_is_not_on_the_path() {
        let told = next(Path::new("my demo"), "/opt/overnight");
        assert!(
            told.contains("\n  cd 'my demo'\n  alias overnight=/opt/overnight\n  export "),
            "{told}"
        );
        assert!(!next(Path::new("d"), "overnight").contains("alias"));
        assert!(told.lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn the_bundled_rows_have_the_row_and_the_key_that_are_shown() {
        let mut table = csv::Reader::from_reader(FILES[0].1.as_bytes());
        assert_eq!(table.headers().unwrap().get(0), Some("id"));
        let rows: Vec<_> = table.records().map(Result::unwrap).collect();
        assert_eq!(rows[0].get(0), Some("R0001"));
        for shown in SHOWN_ROWS {
            assert_eq!(rows.iter().filter(|row| row.get(0) == Some(shown)).count(), 1, "{shown}");
        }
    }

    #[test]
    fn some_rows_and_columns_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let answers = folder.path().join("answers.csv");
        fs::write(&answers, "id,text,answer,route\nR0001,a,\"x, y\",batch\nR9,b,z,batch\n")
            .unwrap();
        assert_eq!(excerpt(&answers).unwrap(), "id,answer,route\nR0001,\"x, y\",batch\n");
        assert!(excerpt(&folder.path().join("none.csv")).is_err());
    }
}
