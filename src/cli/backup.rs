//! `overnight backup`: a safe copy of the project, while a run is on too.
//!
//! It never waits for a run and never keeps one waiting. What is there under the copy's name stays, unless a
//! person says otherwise: a backup is what is gone back to.

use std::path::{Path, PathBuf};

use super::export::same_file;
use super::failure::{Exit, Failure};
use super::text::{count, size};
use super::{Context, program, shell_word};
use crate::store::{Backup, LockState, RunLock, Store, leftovers};

/// Write a copy of the project to a file, safely, while a run is on too.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight backup before-the-edit.db
  overnight backup /mnt/usb/reviews.db --force
  overnight -p before-the-edit.db audit

The copy is the project as it stood at one moment, in one file: it opens, exports and audits as the
project does, and only its owner can read it. It is written beside its place and moved there when
it is whole. Copying the file with `cp` while a run is on can give half of a moment.

Go on with the project or with the copy, not with both: each would buy what was left at that moment.")]
pub(crate) struct Args {
    /// The file to write.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    // Asked first, so that a project that is not there is what is told.
    drop(Store::open_as_it_is(&context.project)?);
    must_be_free(&args, context)?;
    let backup = Backup::of(&context.project, &resolved(&args.file))?;
    let (rows, answered) = {
        let copy = Store::open_as_it_is(backup.path())?;
        (copy.live_rows()?, copy.state_counts(false)?.answered)
    };
    let bytes = backup.bytes()?;
    backup.put()?;
    context.out.say(&format!(
        "{}: {}, {answered} answered, {}",
        args.file.display(),
        count(rows, "row"),
        size(bytes)
    ));
    Ok(Exit::Done)
}

fn must_be_free(args: &Args, context: &Context) -> Result<(), Failure> {
    let (file, project) = (&args.file, &context.project);
    let shown = file.display();
    let beside = ["-wal", "-shm", "-journal", "-run"].map(|suffix| {
        let mut name = project.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    });
    if same_file(file, project) || beside.iter().any(|path| same_file(file, path)) {
        return Err(Failure::usage(format!("{shown} is the project itself"))
            .hint("name another file; a backup on another disk outlives this one"));
    }
    if file.is_dir() {
        return Err(Failure::error(format!("{shown} is a folder")).hint(format!(
            "`{} backup {}` names a file in it",
            context.program(),
            shell_word(&file.join("backup.db").display().to_string())
        )));
    }
    if std::fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        return Err(Failure::error(format!("{shown} is no file that can be replaced"))
            .hint("name a file on a disk"));
    }
    if RunLock::look(file) == LockState::Running {
        return Err(Failure::error(format!("{shown} is a project that a run is working on"))
            .hint(format!("`{} status` shows it", program(file))));
    }
    if args.force {
        return Ok(());
    }
    let again = || {
        format!(
            "`{} backup {} --force` replaces it",
            context.program(),
            shell_word(&shown.to_string())
        )
    };
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(Failure::error(format!("{shown} exists already")).hint(again()));
    }
    match leftovers(file).first() {
        Some(left) => Err(Failure::error(format!(
            "{} exists, which belongs to another database of that name",
            left.display()
        ))
        .hint(again())),
        None => Ok(()),
    }
}

/// A link stays a link: what it points to is replaced.
fn resolved(file: &Path) -> PathBuf {
    std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}
