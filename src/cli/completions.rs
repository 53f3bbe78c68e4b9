//! `overnight completions` and `overnight man`: made from the definition of the command line itself.

use super::failure::{Exit, Failure};
use super::{Context, definition};

/// Print a shell's completion script.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  overnight completions bash > ~/.local/share/bash-completion/completions/overnight\n  overnight completions zsh > ~/.zfunc/_overnight"
)]
pub(crate) struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Print the man page of overnight, or of one of its commands.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  overnight man | man -l -\n  overnight man run > overnight-run.1"
)]
pub(crate) struct ManArgs {
    /// Which command.
    command: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "overnight", &mut script);
    context.out.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: ManArgs, context: &Context) -> Result<Exit, Failure> {
    let whole = definition();
    let page = match &args.command {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| {
                Failure::usage(format!("there is no command {name:?}"))
                    .hint("`overnight --help` lists the commands")
            })?;
            found.name(format!("overnight-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    context.out.data(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}
