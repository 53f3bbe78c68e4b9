//! `overnight add`: rows from files and from stdin, each file whole or not at all.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::{Exit, Failure};
use super::text::{count, thousands};
use super::{Context, shell_word};
use crate::engine::Clock;
use crate::input::{self, Format, TableOptions};
use crate::machine::closest::closest;
use crate::machine::render::Template;
use crate::store::{AddReport, Store, StoreError};

/// Add rows from files; adding the same again adds nothing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight add reviews.csv
  overnight add reviews.csv --key id      a row is itself by its id: a changed one is asked again
  overnight add survey.tsv interviews.jsonl
  overnight add 설문.csv --encoding cp949
  gunzip -c big.csv.gz | overnight add - --format csv

Without --key a row is itself by its content, and the n-th of equal rows by its number: so a file
that has grown adds only what is new.")]
pub(crate) struct Args {
    /// The files; `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The column that names a row; it must be unique and non-empty.
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// The format, where the file's name does not tell it: csv, tsv or jsonl.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// The encoding, where it cannot be recognized: utf-8, utf-16le, cp949, `shift_jis` ….
    #[arg(long, value_name = "NAME")]
    encoding: Option<String>,
    /// The character between cells, where it cannot be recognized.
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    delimiter: Option<char>,
}

fn format(text: &str) -> Result<Format, String> {
    Format::parse(text).ok_or_else(|| "the formats are csv, tsv and jsonl".to_owned())
}

pub(super) fn delimiter(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        _ if text == "\\t" || text == "tab" => Ok('\t'),
        (Some(char), None) => Ok(char),
        _ => Err("a delimiter is one character, or `tab`".to_owned()),
    }
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut store = context.open()?;
    let prompts = templates(&store)?;
    let stdin = args.files.iter().filter(|file| file.as_os_str() == "-").count();
    if stdin > 1 {
        return Err(Failure::usage("standard input can be read only once")
            .hint("name `-` one time; several tables go through files"));
    }
    let mut reports = Vec::new();
    for file in &args.files {
        let name = file.display().to_string();
        let report = match name.as_str() {
            "-" => add(&mut store, (std::io::stdin().lock(), "-"), &args, &prompts)?,
            _ => add(&mut store, (open(file)?, &name), &args, &prompts)?,
        };
        tell(context, &name, report);
        reports.push(json!({
            "file": name, "rows": report.read, "added": report.added, "changed": report.changed,
            "returned": report.returned, "unchanged": report.unchanged,
        }));
    }
    let rows = store.live_rows()?;
    if context.out.is_json() {
        context.out.json(&json!({"files": reports, "rows": rows}))?;
    } else {
        next_step(context, rows, !prompts.is_empty());
    }
    Ok(Exit::Done)
}

fn open(file: &PathBuf) -> Result<File, Failure> {
    let opened = File::open(file).and_then(|opened| match opened.metadata()?.is_dir() {
        true => Err(std::io::Error::from(ErrorKind::IsADirectory)),
        false => Ok(opened),
    });
    opened.map_err(|error| cannot_read(file, &error))
}

fn cannot_read(file: &Path, error: &std::io::Error) -> Failure {
    let shown = file.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            let failure = Failure::error(format!("there is no file {shown}"));
            match neighbour(file) {
                Some(near) => failure.hint(format!("did you mean {}?", shell_word(&near))),
                None => failure.hint("give its path from here, or its whole path"),
            }
        }
        ErrorKind::IsADirectory => {
            let folder = shell_word(&shown.to_string());
            Failure::error(format!("{shown} is a folder"))
                .hint(format!("`overnight add {folder}/*.csv` adds the tables in it"))
        }
        _ => Failure::error(format!("cannot read {shown}")).caused_by(error),
    }
}

/// Returns the file beside it whose name is nearest.
fn neighbour(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let names: Vec<String> = std::fs::read_dir(folder.unwrap_or_else(|| Path::new(".")))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = closest(name, names.iter().map(String::as_str))?;
    Some(file.with_file_name(near).display().to_string())
}

/// Returns the live prompts' templates, with their names.
fn templates(store: &Store) -> Result<Vec<(String, Template)>, Failure> {
    store
        .live_prompts()?
        .into_iter()
        .map(|prompt| {
            let template = Template::compile(&prompt.spec).map_err(|error| {
                Failure::error(format!("prompt {} cannot be used", prompt.name)).caused_by(&error)
            })?;
            Ok((prompt.name, template))
        })
        .collect()
}

fn add<R: Read>(
    store: &mut Store,
    (reader, name): (R, &str),
    args: &Args,
    prompts: &[(String, Template)],
) -> Result<AddReport, Failure> {
    let options = TableOptions {
        format: args.format,
        delimiter: args.delimiter,
        encoding: args.encoding.clone(),
        key_column: args.key.clone(),
    };
    let mut table = input::open(reader, name, &options)?;
    // A table of JSON Lines knows its columns only at its end.
    let is_known = table.format() != Format::Jsonl;
    if is_known {
        check_columns(name, table.columns(), prompts)?;
    }
    let path = if name == "-" { "standard input" } else { name };
    let mut adding = store.start_add(path, args.key.as_deref(), Clock::now())?;
    while let Some(row) = table.next_row()? {
        adding.row(row).map_err(|error| in_file(name, error))?;
    }
    let facts = table.finish()?;
    if !is_known && facts.columns.is_empty() {
        return Ok(AddReport::default());
    }
    if !is_known {
        check_columns(name, &facts.columns, prompts)?;
    }
    Ok(adding.finish(&facts)?)
}

fn check_columns(
    name: &str,
    columns: &[String],
    prompts: &[(String, Template)],
) -> Result<(), Failure> {
    for (prompt, template) in prompts {
        template.check_columns(columns).map_err(|error| {
            Failure::error(format!("{name} does not fit prompt {prompt}"))
                .caused_by(&error)
                .hint("name the columns in the prompt as they are in the file")
                .hint(format!(
                    "`overnight prompt add FILE --name {}` makes the prompt's next version",
                    shell_word(prompt)
                ))
        })?;
    }
    Ok(())
}

fn in_file(name: &str, error: StoreError) -> Failure {
    match error {
        StoreError::DuplicateKey { line, first, key } => Failure::error(format!(
            "{name}, line {line}: the key {key:?} stands on line {first} already"
        ))
        .hint("a key has to be unique in its file; without --key, rows are told apart by content"),
        other => other.into(),
    }
}

fn tell(context: &Context, name: &str, report: AddReport) {
    let name = if name == "-" { "standard input" } else { name };
    let mut parts = vec![format!("{} added", count(report.added, "row"))];
    let others = [
        (report.changed, "changed"),
        (report.returned, "back"),
        (report.unchanged, "there already"),
    ];
    for (number, what) in others {
        if number > 0 {
            parts.push(format!("{} {what}", thousands(number)));
        }
    }
    context.out.say(&format!("{name}: {}", parts.join(", ")));
    if report.read == 0 {
        context.out.warn(&format!("{name} has no rows"));
    }
}

fn next_step(context: &Context, rows: u64, has_prompt: bool) {
    if rows == 0 {
        return;
    }
    let program = context.program();
    context.out.hint(&match has_prompt {
        true => format!("`{program} plan` shows what a run would do, `{program} run` does it"),
        false => format!("`{program} prompt add FILE --model MODEL` adds the prompt"),
    });
}
