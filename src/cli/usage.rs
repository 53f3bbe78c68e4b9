//! What is said about a command line that cannot be read, and help where it was asked for.
//!
//! The words are those of the library that reads arguments; the last line is ours: the next command to type.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::definition;
use super::failure::Exit;
use super::out::{Out, Voice};

/// Help and version are what was asked for; all else is wrong usage.
pub(crate) fn tell(error: &clap::Error) -> ExitCode {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_help {
        // Nobody can be told that the output is gone.
        let _ = error.print();
    } else {
        let out = Out::new(Voice { is_quiet: false, is_json: false });
        out.say(body(&error.render().ansi().to_string()));
        out.hint(&hint(error.kind(), std::env::args().skip(1)));
    }
    ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 })
}

/// Leaves the library's own last line out, which names no command.
fn body(rendered: &str) -> &str {
    let end = rendered.find("\nFor more information").unwrap_or(rendered.len());
    rendered[..end].trim_end()
}

fn hint(kind: ErrorKind, words: impl Iterator<Item = String>) -> String {
    let command = command(words);
    match kind {
        ErrorKind::InvalidSubcommand => format!("`{command} --help` lists the commands"),
        _ => format!("`{command} --help` shows what it takes, with examples"),
    }
}

/// Returns the command that was meant, from the words that were typed.
fn command(words: impl Iterator<Item = String>) -> String {
    let whole = definition();
    let mut at = &whole;
    let mut path = at.get_name().to_owned();
    for word in words {
        if let Some(found) = at.find_subcommand(&word) {
            path = format!("{path} {}", found.get_name());
            at = found;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(typed: &str) -> String {
        command(typed.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_is_found_among_options() {
        assert_eq!(meant("foo"), "overnight");
        assert_eq!(meant("-p a.db run --rpm 0"), "overnight run");
        assert_eq!(meant("prompt --json add"), "overnight prompt add");
    }

    #[test]
    fn only_the_last_line_is_left_out() {
        let error = "error: one\n\n  tip: two\n\nFor more information, try '--help'.\n";
        assert_eq!(body(error), "error: one\n\n  tip: two");
        assert_eq!(body("error: one\n"), "error: one");
    }
}
