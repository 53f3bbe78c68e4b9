//! `overnight export`: the table with its answers, as a file or on stdout.
//!
//! What is on record at one moment is written, run or no run; nothing is changed. What is missing
//! is said on stderr, so that nobody takes a half-answered table for a whole one.

mod place;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::PossibleValuesParser;
use serde_json::{Map, json};

pub(crate) use self::place::same_file;
use self::place::{Place, PlaceError};
use super::failure::{Exit, Failure};
use super::prompt;
use super::text::{count, thousands};
use super::{Context, shell_word};
use crate::domain::{AnswerFormat, PromptId, State};
use crate::export::{
    AnswerKind, Details, ExportError, Form, Format, Layout, Naming, PromptPart, Selection, Shape,
    Table, Written,
};
use crate::machine::plan::Liveness;
use crate::store::{LockState, PromptRecord, RunLock, Store, StoreError};

/// Write the table with its answers to a file or to stdout.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight export answers.csv
  overnight export answers.csv --bom               for Excel, which garbles 한국어 without the mark
  overnight export answers.jsonl --details         with model, route, tokens, cost and more
  overnight export failed.csv --only failed,truncated --details
  overnight export - --format jsonl | jq .answer

Every row is written in the order in which it came, with its own columns first and unchanged, then
`answer` and `state`; a prompt with a schema has a column `answer.FIELD` for each of its fields.
With several prompts these are `NAME.answer` and `NAME.state`. In JSON Lines a row has the columns
of its own file; ours are null where there is nothing.

A file is written beside its place and moved there when it is whole; one that is there is replaced.")]
pub(crate) struct Args {
    /// The file to write; stdout where none is named, or `-`.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The format, where the file's name does not tell it; stdout gets CSV.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// Say of each answer how it came about: model, route, batch, tokens, cost, error and more.
    #[arg(long)]
    details: bool,
    /// Write the answers of this prompt only, or of this version of it; may be given again.
    #[arg(long, value_name = "NAME[@VERSION]")]
    prompt: Vec<String>,
    /// Write only rows in one of these states; of several prompts, one is enough.
    #[arg(long, value_name = "STATE", value_parser = states(), value_delimiter = ',')]
    only: Vec<String>,
    /// Write a line for each row and prompt, instead of all prompts beside each other.
    #[arg(long)]
    long: bool,
    /// Start the CSV with a byte order mark, by which Excel knows that it is UTF-8.
    #[arg(long)]
    bom: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatName {
    Csv,
    #[value(alias = "ndjson")]
    Jsonl,
}

/// All states but `answered`.
const UNANSWERED: &str = "unanswered";
const ANSWERED: &str = "answered";
const FAILED: &str = "failed";

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(State::WORDS.into_iter().chain([UNANSWERED]))
}

/// What is to be written.
struct Job {
    format: Format,
    layout: Layout,
    selection: Selection,
    prompts: Vec<PromptId>,
}

/// What was written.
struct Report {
    columns: Vec<String>,
    renamed: Vec<(String, String)>,
    prompts: usize,
    form: Form,
    written: Written,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let file = args.file.as_deref().filter(|file| file.as_os_str() != "-");
    if let Some(folder) = file.filter(|file| file.is_dir()) {
        return Err(PlaceError::IsFolder { path: folder.to_owned() }.into());
    }
    let format = format(&args, file)?;
    if file.is_none() && context.out.is_json() {
        return Err(Failure::usage("--json reports on a file, and stdout has the table").hint(
            "name a FILE to have a report, or use --format jsonl to have the table as JSON",
        ));
    }
    let store = context.open_to_read()?;
    if let Some(file) = file {
        must_not_replace(file, &store)?;
    }
    let liveness = match RunLock::look(store.path()) {
        LockState::Running => Liveness::Running,
        LockState::Idle => Liveness::Idle,
    };
    let report = store.as_of_now(|store| {
        let prompts = chosen(store, &args.prompt)?;
        let layout = Layout::new(shape(store, &prompts, &args, liveness)?);
        let job = Job {
            format,
            layout,
            selection: selection(&args.only),
            prompts: prompts.iter().map(|(_, prompt)| prompt.id).collect(),
        };
        carry_out(job, file, store)
    })?;
    if let Some(file) = file
        && context.out.is_json()
    {
        context.out.json(&as_json(&report, file))?;
    }
    tell(&report, file, liveness, context);
    Ok(Exit::Done)
}

fn format(args: &Args, file: Option<&Path>) -> Result<Format, Failure> {
    let by_name = |file: &Path| {
        let ending = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match ending.as_str() {
            "csv" => Ok(FormatName::Csv),
            "jsonl" | "ndjson" => Ok(FormatName::Jsonl),
            "" => Err(format!("{} does not say its format", file.display())),
            _ => Err(format!(".{ending} is no format that can be written")),
        }
    };
    let named = args.format.map_or_else(|| file.map_or(Ok(FormatName::Csv), by_name), Ok);
    let named = named.map_err(|message| {
        Failure::usage(message)
            .hint("the formats are csv and jsonl: end the name in .csv or .jsonl, or use --format")
    })?;
    match (named, args.bom) {
        (FormatName::Csv, false) => Ok(Format::Csv),
        (FormatName::Csv, true) => Ok(Format::CsvWithMark),
        (FormatName::Jsonl, false) => Ok(Format::Jsonl),
        (FormatName::Jsonl, true) => {
            Err(Failure::usage("--bom is for CSV; JSON Lines have no byte order mark"))
        }
    }
}

/// Neither the record nor what rows were read from may be lost to a slip of the hand.
fn must_not_replace(file: &Path, store: &Store) -> Result<(), Failure> {
    for suffix in ["", "-wal", "-shm", "-journal", "-run"] {
        let mut ours = store.path().as_os_str().to_owned();
        ours.push(suffix);
        if same_file(file, Path::new(&ours)) {
            return Err(Failure::error(format!("{} belongs to the project", file.display()))
                .hint("name another file"));
        }
    }
    for path in store.source_paths()? {
        if file.exists() && same_file(file, Path::new(&path)) {
            return Err(Failure::error(format!("rows were read from {}", file.display())).hint(
                "name another file: this one would be replaced by the table with its answers",
            ));
        }
    }
    Ok(())
}

/// Returns the prompts that are asked for, each under the name it is asked for by; all live ones where none is.
fn chosen(store: &Store, names: &[String]) -> Result<Vec<(String, PromptRecord)>, Failure> {
    let all = store.prompts()?;
    let mut chosen: Vec<(String, PromptRecord)> = Vec::new();
    for name in names {
        let found = prompt::find(&all, name)?;
        if chosen.iter().all(|(_, prompt)| prompt.id != found.id) {
            chosen.push((name.clone(), found.clone()));
        }
    }
    if names.is_empty() {
        let live = all.into_iter().filter(|prompt| prompt.is_live);
        chosen.extend(live.map(|prompt| (prompt.name.clone(), prompt)));
    }
    Ok(chosen)
}

fn shape(
    store: &Store,
    prompts: &[(String, PromptRecord)],
    args: &Args,
    liveness: Liveness,
) -> Result<Shape, StoreError> {
    let part = |(name, prompt): &(String, PromptRecord)| PromptPart {
        name: name.clone(),
        version: prompt.version,
        model: prompt.spec.model.to_string(),
        answer: answer_kind(&prompt.spec.answer),
    };
    Ok(Shape {
        columns: store.columns()?,
        prompts: prompts.iter().map(part).collect(),
        naming: if prompts.len() > 1 { Naming::ByPrompt } else { Naming::Plain },
        details: if args.details { Details::With } else { Details::Without },
        form: if args.long { Form::Long } else { Form::Wide },
        liveness,
    })
}

fn answer_kind(format: &AnswerFormat) -> AnswerKind {
    match format {
        AnswerFormat::Text | AnswerFormat::Choices(_) => AnswerKind::Text,
        AnswerFormat::Schema(schema) => {
            let fields = schema.get("properties").and_then(|properties| properties.as_object());
            AnswerKind::Object(
                fields.map(|fields| fields.keys().cloned().collect()).unwrap_or_default(),
            )
        }
    }
}

fn selection(only: &[String]) -> Selection {
    let asked = |name: &str| only.iter().any(|only| only == name);
    let is_wanted = |word: &&str| asked(word) || (asked(UNANSWERED) && *word != ANSWERED);
    Selection(State::WORDS.into_iter().filter(is_wanted).collect())
}

fn carry_out(job: Job, file: Option<&Path>, store: &Store) -> Result<Report, Failure> {
    let columns = job.layout.columns().map(str::to_owned).collect();
    let renamed = job.layout.renamed().to_vec();
    let (prompts, form) = (job.prompts.len(), job.layout.form());
    let written = match file {
        Some(file) => to_file(job, file, store)?,
        // Locked whole: nothing else writes to stdout, and the bytes are data, colors or not.
        None => write(io::stdout().lock(), job, store, &AtomicBool::new(false))?.1,
    };
    Ok(Report { columns, renamed, prompts, form, written })
}

fn to_file(job: Job, file: &Path, store: &Store) -> Result<Written, Failure> {
    let place = Place::take(file)?;
    let is_replacing = place.is_replacing();
    let interrupted = if is_replacing { watch_for_interrupt() } else { Arc::default() };
    let (place, written) = write(place, job, store, &interrupted).map_err(|stop| match stop {
        // Whoever read the pipe has gone.
        Stop::Io(error) if !is_replacing && error.kind() == io::ErrorKind::BrokenPipe => {
            error.into()
        }
        Stop::Io(error) => PlaceError::new(file, error).into(),
        Stop::Failure(failure) => failure,
    })?;
    place.put()?;
    Ok(written)
}

/// Writes the table; hands back what it was written to.
fn write<W: Write>(
    out: W,
    job: Job,
    store: &Store,
    interrupted: &AtomicBool,
) -> Result<(W, Written), Stop> {
    let mut table = Table::start(out, job.format, job.layout, job.selection)?;
    store.each_answer(&job.prompts, |row| {
        if interrupted.load(Ordering::Relaxed) {
            return Err(interrupt().into());
        }
        table.row(row).map_err(Stop::from)
    })?;
    let (mut out, written) = table.finish()?;
    out.flush()?;
    Ok((out, written))
}

/// Why writing stops.
enum Stop {
    /// The bytes are not taken; whose bytes, the caller knows.
    Io(io::Error),
    Failure(Failure),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Io(error) => Self::Io(error),
            ExportError::Cells { position } | ExportError::Answer { position, .. } => {
                let failure = Failure::error(error.to_string())
                    .hint("the project's file was changed by something else")
                    .hint(format!("`overnight show '#{position}'` shows what is on record"));
                Self::Failure(failure)
            }
        }
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Io(error) => error.into(),
            Stop::Failure(failure) => failure,
        }
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        let failure = Self::error(error.to_string());
        match &error {
            PlaceError::IsFolder { path } => {
                let inside = path.join("answers.csv").display().to_string();
                failure.hint(format!("name a file in it, such as {}", shell_word(&inside)))
            }
            PlaceError::NoFolder { folder, .. } => failure
                .hint(format!("`mkdir -p {}` makes it", shell_word(&folder.display().to_string()))),
            PlaceError::NotAFolder { .. } => failure.hint("name a file in a folder"),
            PlaceError::ReadOnly { .. } => {
                failure.hint("allow writing to it, or name another file")
            }
            PlaceError::Full { .. } => {
                failure.hint("make room there and export again, or name a file on another disk")
            }
            PlaceError::Io { source, .. } => {
                failure.caused_by(source).hint("name a file in a folder where you may write")
            }
        }
    }
}

fn interrupt() -> Failure {
    let mut failure = Failure::error("interrupted before the file was whole; nothing was written");
    failure.exit = Exit::Interrupted;
    failure
}

/// Sees to it that Ctrl-C ends the writing and not the process, which would leave an unfinished file.
fn watch_for_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            seen.store(true, Ordering::Relaxed);
        }
    });
    interrupted
}

fn as_json(report: &Report, file: &Path) -> serde_json::Value {
    let written = &report.written;
    let states: Map<_, _> =
        written.states().map(|(word, number)| (word.to_owned(), number.into())).collect();
    let renamed: Map<_, _> =
        report.renamed.iter().map(|(from, to)| (from.clone(), to.as_str().into())).collect();
    json!({
        "file": file.display().to_string(),
        "rows": written.lines,
        "live_rows": written.rows,
        "answered": written.in_state(ANSWERED),
        "states": states,
        "columns": report.columns,
        "renamed": renamed,
    })
}

fn tell(report: &Report, file: Option<&Path>, liveness: Liveness, context: &Context) {
    let (out, written) = (context.out, &report.written);
    for (from, to) in &report.renamed {
        out.warn(&format!("there is a column {from} already; ours is called {to}"));
    }
    if written.with_other_fields > 0 {
        let answers = count(written.with_other_fields, "answer");
        let verb = if written.with_other_fields == 1 { "has" } else { "have" };
        out.warn(&format!("{answers} {verb} fields that the schema does not name"));
        out.hint("--long writes answers whole");
    }
    if let Some(file) = file {
        out.say(&format!("wrote {} to {}", extent(report), file.display()));
    }
    let program = context.program();
    if written.rows == 0 {
        out.say("the project has no rows yet");
        out.hint(&format!("`{program} add FILE` adds some"));
    } else if report.prompts == 0 {
        out.say("the project has no prompt, so there are no answers");
        out.hint(&format!("`{program} prompt add FILE --model MODEL` adds one"));
    } else if let Some(missing) = missing(written, report.prompts) {
        out.say(&missing);
        next_steps(written, liveness, context);
    }
}

/// Returns `2,000 rows`, `8 of 2,000 rows` or `4,000 lines`.
fn extent(report: &Report) -> String {
    let written = &report.written;
    match report.form {
        Form::Long => count(written.lines, "line"),
        Form::Wide if written.lines == written.rows => count(written.rows, "row"),
        Form::Wide => format!("{} of {}", thousands(written.lines), count(written.rows, "row")),
    }
}

/// Returns `12 rows have no answer: 8 failed, 4 pending`; `None` where nothing is missing.
fn missing(written: &Written, prompts: usize) -> Option<String> {
    let mut states: Vec<_> =
        written.states().filter(|(word, number)| *word != ANSWERED && *number > 0).collect();
    // What needs a person first.
    states.reverse();
    let total: u64 = states.iter().map(|(_, number)| number).sum();
    let what = match (total, prompts) {
        (0, _) => return None,
        (1, 1) => "1 row has no answer".to_owned(),
        (_, 1) => format!("{} have no answer", count(total, "row")),
        (1, _) => "1 answer is missing".to_owned(),
        (_, _) => format!("{} are missing", count(total, "answer")),
    };
    let parts: Vec<String> = states
        .iter()
        .map(|(word, number)| format!("{} {}", thousands(*number), word.replace('_', " ")))
        .collect();
    Some(format!("{what}: {}", parts.join(", ")))
}

fn next_steps(written: &Written, liveness: Liveness, context: &Context) {
    let (out, program) = (context.out, context.program());
    let some = |state: State| written.in_state(state.as_str()) > 0;
    if liveness == Liveness::Running {
        out.hint("a run is on: export again when it is done");
        return;
    }
    if some(State::Pending) || some(State::InDoubt) || some(State::InBatch) {
        out.hint(&format!("`{program} run` goes on with what is left"));
    }
    if written.in_state(FAILED) > 0 {
        out.hint(&format!("`{program} retry --failed` makes failed ones due again"));
    }
    if some(State::Truncated) {
        out.hint(&format!("`{program} retry --truncated --max-tokens N` gives cut ones more room"));
    }
}
