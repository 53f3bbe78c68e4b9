//! The command line: arguments, settings, one file a command, and all printing.
//!
//! A command reads its arguments, asks the layers above and reports; it decides nothing that
//! another front end would have to decide again. Only this layer reads the environment and prints.

mod add;
mod audit;
mod backup;
mod batches;
mod cancel;
mod completions;
mod demo;
mod export;
mod failure;
#[cfg(test)]
mod fixture;
mod init;
mod out;
mod page;
mod plan;
mod price;
mod prices;
mod progress;
mod prompt;
mod rehearse;
mod remove;
mod retry;
mod rows;
mod run;
mod savings;
mod server;
mod settings;
mod show;
mod simulate;
mod status;
mod tasks;
mod text;
#[doc(hidden)]
pub mod typed;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::failure::{Exit, Failure};
use self::out::{Out, Voice};
use self::settings::Settings;
use crate::engine::Clock;
use crate::machine::plan::Liveness;
use crate::store::{LockState, RunLock, Store, StoreError};

/// Puts every row of a table through a language model, and brings the table back with answers.
#[derive(Parser)]
#[command(name = "overnight", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  overnight init --prompt 'Is this review positive or negative? {{ review }}' --model gpt-5-mini
  overnight add reviews.csv
  overnight run
  overnight export answers.csv

  overnight demo              shows all of this on bundled rows and a simulated provider, at no cost

Exit codes:
  0    all due requests are answered, or the command did what it was asked
  1    error                           2    wrong usage
  3    finished, some rows failed or stayed truncated; `audit`: something does not hold
  4    left while batches go on at the provider; `overnight run` collects them
  130  interrupted; `overnight run` goes on from there";

#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The project's file; `overnight.db` in the current folder where none is named.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "OVERNIGHT_PROJECT",
        hide_env_values = true
    )]
    project: Option<PathBuf>,
    /// Report as JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more; -vv says what the libraries do. No contents of rows or replies are shown.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to use color.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Args),
    Add(add::Args),
    Remove(remove::Args),
    Prompt(prompt::Args),
    Plan(plan::Args),
    Price(price::Args),
    Rehearse(rehearse::Args),
    Run(run::Args),
    Status(status::Args),
    Cancel(cancel::Args),
    Export(export::Args),
    Show(show::Args),
    Audit(audit::Args),
    Backup(backup::Args),
    Retry(retry::Args),
    Simulate(simulate::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(completions::ManArgs),
}

/// What every command has.
pub(crate) struct Context {
    /// The project's file.
    pub(crate) project: PathBuf,
    /// The printer.
    pub(crate) out: Out,
    /// The environment.
    pub(crate) settings: Settings,
}

impl Context {
    /// Opens the project to write.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        let (out, patience) = (self.out, self.settings.patience()?);
        let store = Store::open(&self.project, Clock::now())?.on_wait(move |path| {
            out.say(&format!("{} is locked by another process; waiting for it", path.display()));
        });
        Ok(match patience {
            Some(patience) => store.patience(patience),
            None => store,
        })
    }

    /// Opens the project to read.
    pub(crate) fn open_to_read(&self) -> Result<Store, StoreError> {
        Store::open_to_read(&self.project, Clock::now())
    }

    /// Returns the same with keys sent over plain HTTP to other machines, if a person asks for that.
    pub(crate) fn sending_in_clear(&self, is_asked: bool) -> Self {
        let settings = self.settings.clone().sending_in_clear(is_asked);
        Self { project: self.project.clone(), out: self.out, settings }
    }

    /// Says whether a run is on, at or just beside the moment that the store answers as of: asked on both sides of
    /// it, so that what a run that begins or ends just now has in flight is not taken for lost.
    pub(crate) fn liveness(&self, store: &Store) -> Result<Liveness, StoreError> {
        let before = RunLock::look(&self.project);
        store.fix_moment()?;
        Ok(match (before, RunLock::look(&self.project)) {
            (LockState::Idle, LockState::Idle) => Liveness::Idle,
            (LockState::Running, _) | (_, LockState::Running) => Liveness::Running,
        })
    }

    /// Returns `overnight`, with the project named where it is not the default one: for hints to type.
    pub(crate) fn program(&self) -> String {
        program(&self.project)
    }
}

/// Returns `overnight` as it is typed for a project.
pub(crate) fn program(project: &Path) -> String {
    match project.as_os_str() == DEFAULT_PROJECT {
        true => "overnight".to_owned(),
        false => format!("overnight -p {}", shell_word(&project.display().to_string())),
    }
}

/// Where the project is, where nobody says so.
const DEFAULT_PROJECT: &str = "overnight.db";

/// Returns a word as a shell would need it.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:=@%,".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The whole program: reads the command line, does what it says and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return usage::tell(&error),
    };
    color(cli.global.color);
    trace(cli.global.verbose);
    let voice = Voice { is_quiet: cli.global.quiet, is_json: cli.global.json };
    let context = Context {
        project: cli.global.project.unwrap_or_else(|| DEFAULT_PROJECT.into()),
        out: Out::new(voice),
        settings: Settings::read(),
    };
    #[cfg(debug_assertions)]
    if let Err(error) = context.settings.arm_stop_points() {
        let failure = Failure::error("the stop points cannot be armed").caused_by(&error);
        context.out.fail(&failure);
        return ExitCode::from(failure.exit as u8);
    }
    if let Some(problem) = context.settings.problem() {
        context.out.warn(problem);
    }
    let exit = dispatch(cli.command, &context).unwrap_or_else(|failure| {
        let failure = failure.in_project(&context.project);
        context.out.fail(&failure);
        failure.exit
    });
    ExitCode::from(exit as u8)
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    Cli::from_arg_matches(&matches)
}

fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Add(args) => add::run(args, context),
        Command::Remove(args) => remove::run(args, context),
        Command::Prompt(args) => prompt::run(args, context),
        Command::Plan(args) => plan::run(args, context),
        Command::Price(args) => price::run(args, context),
        Command::Rehearse(args) => rehearse::run(args, context),
        Command::Run(args) => run::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Cancel(args) => cancel::run(args, context),
        Command::Export(args) => export::run(args, context),
        Command::Show(args) => show::run(args, context),
        Command::Audit(args) => audit::run(args, context),
        Command::Backup(args) => backup::run(args, context),
        Command::Retry(args) => retry::run(args, context),
        Command::Simulate(args) => simulate::run(args, context),
        Command::Demo(args) => demo::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => completions::man(args, context),
    }
}

fn color(color: Color) {
    let choice = match color {
        Color::Auto => return,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// Diagnostics go to stderr. Ours name ids and sizes, never contents; libraries are quiet unless asked twice.
fn trace(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "overnight=debug",
        _ => "debug,hyper_util=debug,reqwest=debug",
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .without_time()
        .finish();
    // Fails only where one was set before, which nobody does.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The definition of the command line, for completions and man pages.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}
