//! `overnight prompt`: prompts and their versions.

use std::error::Error;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::{Exit, Failure};
use super::page::aligned;
use super::price::{self, OwnPrice};
use super::server;
use super::text::{count, moment, whole};
use super::{Context, shell_word};
use crate::domain::{AnswerFormat, ModelName, PromptSpec, Structured};
use crate::engine::Clock;
use crate::input::prompt_file::{self, PromptDefaults};
use crate::machine::closest::closest;
use crate::machine::render::Template;
use crate::provider::check_parameters;
use crate::store::PromptRecord;

/// Work with prompts and their versions.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight prompt add sentiment.prompt
  overnight prompt list
  overnight prompt diff sentiment")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Add(AddArgs),
    List(ListArgs),
    Show(ShowArgs),
    Diff(DiffArgs),
}

/// Add a prompt, or the next version of one.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight prompt add sentiment.prompt
  overnight prompt add sentiment.prompt --name strict --model gpt-5
  overnight prompt add --text 'Translate into English: {{ 본문 }}' --name english --model gpt-5-mini

A prompt file:
  ---
  model: gpt-5-mini
  max_tokens: 200
  choices: [positive, negative, mixed]
  price_in: 0.25         # what the model costs here, if that is to be said: no part of the prompt
  price_out: 2
  ---
  system:
  You label product reviews.

  user:
  {{ review }}

A version is never changed: adding a prompt under a name that is there makes its next version, and
its requests are due; the old version's answers stay on record.")]
struct AddArgs {
    /// The prompt's file; `-` is stdin.
    #[arg(required_unless_present = "text", conflicts_with = "text", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The prompt's text.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    #[command(flatten)]
    options: PromptOptions,
}

/// List the prompts.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  overnight prompt list\n  overnight prompt list --json")]
struct ListArgs {}

/// Show a prompt as it was written.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  overnight prompt show main\n  overnight prompt show main@1")]
struct ShowArgs {
    /// The prompt, or one version of it as NAME@VERSION; may be left out where there is only one.
    #[arg(value_name = "NAME[@VERSION]")]
    name: Option<String>,
}

/// Show what changed between two versions.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  overnight prompt diff main          the last two versions\n  overnight prompt diff main@1 main@3"
)]
struct DiffArgs {
    /// The older one, or just a name.
    #[arg(value_name = "NAME[@VERSION]")]
    old: String,
    /// The newer one.
    #[arg(value_name = "NAME[@VERSION]")]
    new: Option<String>,
}

/// What may be said about a prompt beside its text.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct PromptOptions {
    /// The prompt's name; else what the prompt itself or its file is called.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The model as PROVIDER/MODEL; a bare name is OpenAI's. Wins over the prompt's own.
    #[arg(long, value_name = "PROVIDER/MODEL", value_parser = model_name)]
    model: Option<ModelName>,
    /// The most tokens that an answer may have. Wins over the prompt's own.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    max_tokens: Option<u32>,
    /// The labels that an answer must be one of, separated by commas.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    choices: Vec<String>,
}

impl PromptOptions {
    /// Refuses options that would have no prompt to go to.
    pub(crate) fn must_be_empty(&self) -> Result<(), Failure> {
        let given = [
            (self.name.is_some(), "--name"),
            (self.model.is_some(), "--model"),
            (self.max_tokens.is_some(), "--max-tokens"),
            (!self.choices.is_empty(), "--choices"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            None => Ok(()),
            Some((_, option)) => {
                Err(Failure::usage(format!("{option} is said of a prompt, and there is none"))
                    .hint("`overnight init --prompt TEXT|FILE …` gives one"))
            }
        }
    }
}

/// Reads the name of a model.
pub(crate) fn model_name(text: &str) -> Result<ModelName, String> {
    ModelName::parse(text).ok_or_else(|| {
        "a model is named as `provider/model`, or `gpt-5-mini` for OpenAI's".to_owned()
    })
}

/// Where a prompt's text comes from.
pub(crate) enum Source {
    /// A text, or the name of a file if there is one.
    TextOrFile(String),
    /// A text.
    Text(String),
    /// A file.
    File(PathBuf),
}

/// A prompt that has been read and found good.
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) spec: PromptSpec,
    /// What it says of its model's price.
    pub(crate) price: OwnPrice,
    template: Template,
}

impl Ready {
    /// Says what is odd about it.
    pub(crate) fn warn(&self, context: &Context) {
        if self.template.columns().is_empty() {
            context.out.warn(&format!(
                "prompt {} names no column, so every row asks the same; {{{{ column }}}} puts a cell in",
                self.name
            ));
        }
    }
}

/// Reads a prompt and checks all that can be checked without a table or a network.
pub(crate) fn read(
    source: &Source,
    options: &PromptOptions,
    base_url: Option<&str>,
    context: &Context,
) -> Result<Ready, Failure> {
    let (text, file) = text_of(source)?;
    let unpriced = prompt_file::take_price(&text);
    let defaults = |base_url, structured| PromptDefaults {
        model: options.model.clone(),
        max_tokens: options.max_tokens,
        base_url,
        structured,
    };
    let folder = file.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let mut load = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let what = file
        .as_ref()
        .map_or_else(|| "the prompt".to_owned(), |file| format!("the prompt {}", file.display()));
    let cannot =
        |error: &dyn Error| Failure::error(format!("{what} cannot be used")).caused_by(error);
    let mut parse = |text: &str, base_url, structured| {
        prompt_file::parse(text, &defaults(base_url, structured), &mut load).map_err(|error| {
            match error.problem {
                prompt_file::Problem::NoModel => cannot(&error),
                _ => cannot(&error).hint(AS_WRITTEN),
            }
        })
    };
    let unpriced = unpriced.map_err(|error| cannot(&error).hint(AS_WRITTEN))?;
    let text = unpriced.text;
    // Read more than once: how limits and forms are sent hangs on where the model is, which the prompt
    // may say; and the lines of an error are those of the text as it was given, before --choices.
    let first = parse(&unpriced.in_place, prompt_file::BaseUrl::Own, Structured::Schema)?;
    Template::compile(&first.spec).map_err(|error| cannot(&error).hint(AS_WRITTEN))?;
    let text = with_choices(text, &options.choices)?;
    let provider = server::provider(&first.spec.model)?;
    let place = server::place(provider, base_url, &context.settings)?;
    let (at, structured) = (place.base_url(), provider.structured);
    let parsed =
        match options.choices.is_empty() {
            true => parse(&text, at, structured)?,
            // The text alone was good.
            false => prompt_file::parse(&text, &defaults(at, structured), &mut load).map_err(
                |error| Failure::usage("--choices cannot be used").caused_by(&error.problem),
            )?,
        };
    check_parameters(&parsed.spec).map_err(|error| cannot(&error))?;
    let template = Template::compile(&parsed.spec).map_err(|error| cannot(&error))?;
    let stem =
        file.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    let name = options.name.clone().or(parsed.name).or(stem).unwrap_or_else(|| "main".to_owned());
    check_name(&name)?;
    Ok(Ready { name, spec: parsed.spec, template, price: unpriced.price.into() })
}

/// Where a person sees how a prompt is written.
const AS_WRITTEN: &str = "`overnight prompt add --help` shows how a prompt is written";

fn check_name(name: &str) -> Result<(), Failure> {
    match name.is_empty() || name.chars().any(|char| char.is_control() || char == '@') {
        true => Err(Failure::usage(format!("{name:?} cannot be a prompt's name"))
            .hint("`--name NAME` names it; a name is one line without `@`")),
        false => Ok(()),
    }
}

/// Returns the text, and the file that it came from.
fn text_of(source: &Source) -> Result<(String, Option<PathBuf>), Failure> {
    match source {
        Source::Text(text) => Ok((text.clone(), None)),
        Source::File(path) => read_file(path).map(|text| (text, Some(path.clone()))),
        Source::TextOrFile(given) => {
            let path = PathBuf::from(given);
            if path.is_file() {
                return read_file(&path).map(|text| (text, Some(path)));
            }
            if path.is_dir() || looks_like_a_file(given) {
                return Err(cannot_read(&path, &ErrorKind::NotFound.into()));
            }
            Ok((given.clone(), None))
        }
    }
}

/// A single word with an ending, or with a slash, is a file's name that was mistyped and not a prompt.
fn looks_like_a_file(given: &str) -> bool {
    let endings = ["prompt", "txt", "md", "j2", "jinja", "jinja2", "yaml", "yml"];
    let path = Path::new(given);
    let has_ending = path
        .extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| endings.contains(&ending.to_ascii_lowercase().as_str()));
    !given.contains("{{")
        && !given.contains('\n')
        && (has_ending
            || given.starts_with(['/', '.', '~'])
            || (given.contains('/') && !given.contains(char::is_whitespace)))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    let bytes = match path.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        }
        false => std::fs::read(path),
    };
    let bytes = bytes.map_err(|error| cannot_read(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        let what = match path.as_os_str() == "-" {
            true => "the prompt on standard input".to_owned(),
            false => format!("the prompt {}", path.display()),
        };
        Failure::error(format!("{what} is not UTF-8 text from line {line} on"))
            .hint("`iconv -f CP949 -t UTF-8 OLD > NEW` converts it, where CP949 is what it is in")
    })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    if path.is_dir() {
        return Failure::error(format!("{} is a folder, not a prompt", path.display()))
            .hint("name a file in it");
    }
    match error.kind() {
        ErrorKind::NotFound => {
            Failure::error(format!("there is no prompt file {}", path.display()))
                .hint("`overnight prompt add --text TEXT` and `overnight init --prompt TEXT` take the text itself; {{ column }} names a column")
        }
        _ => Failure::error(format!("cannot read the prompt {}", path.display())).caused_by(error),
    }
}

/// Writes `--choices` into the prompt itself, so that the record says it all.
fn with_choices(text: String, choices: &[String]) -> Result<String, Failure> {
    if choices.is_empty() {
        return Ok(text);
    }
    if text.trim_start_matches(['\u{feff}', '\n', '\r', ' ']).starts_with("---") {
        return Err(Failure::usage("--choices is for a prompt without front matter")
            .hint("write `choices: [a, b]` between its `---` lines"));
    }
    let labels: Vec<&str> = choices.iter().map(|label| label.trim()).collect();
    let labels = serde_json::to_string(&labels).map_err(std::io::Error::from)?;
    Ok(format!("---\nchoices: {labels}\n---\n{text}"))
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    match args.command {
        Command::Add(args) => add(args, context),
        Command::List(ListArgs {}) => list(context),
        Command::Show(args) => show(&args, context),
        Command::Diff(args) => diff(&args, context),
    }
}

fn add(args: AddArgs, context: &Context) -> Result<Exit, Failure> {
    let mut store = context.open()?;
    let base_url = store.project()?.base_url;
    let source = match (args.text, args.file) {
        (Some(text), _) => Source::Text(text),
        (None, Some(file)) => Source::File(file),
        (None, None) => return Err(Failure::usage("a prompt needs a FILE or --text")),
    };
    let ready = read(&source, &args.options, base_url.as_deref(), context)?;
    let columns = store.columns()?;
    if store.live_rows()? > 0 {
        ready.template.check_columns(&columns).map_err(|error| {
            Failure::error(format!("prompt {} does not fit the table", ready.name))
                .caused_by(&error)
                .hint("name the columns in the prompt as they are in the table")
        })?;
    }
    let program = context.program();
    let price = ready.price.onto_that_of(&store, &ready.spec.model, &program)?;
    let (record, is_new) = store.add_prompt(&ready.name, &ready.spec, Clock::now())?;
    price::set_all(&mut store, &price, context)?;
    if context.out.is_json() {
        context.out.json(&json!({
            "name": record.name, "version": record.version,
            "model": record.spec.model.to_string(), "added": is_new,
        }))?;
        return Ok(Exit::Done);
    }
    let title = title(&record);
    match is_new {
        true => context.out.say(&format!("added {title}")),
        false => context.out.say(&format!("{title} is there already, word for word")),
    }
    ready.warn(context);
    if is_new && store.live_rows()? > 0 {
        context.out.hint(&format!("`{} plan` shows what is due now", context.program()));
    }
    Ok(Exit::Done)
}

fn title(prompt: &PromptRecord) -> String {
    format!("prompt {} version {} for {}", prompt.name, prompt.version, prompt.spec.model)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let prompts = context.open_to_read()?.prompts()?;
    if context.out.is_json() {
        let list: Vec<_> = prompts.iter().map(as_json).collect();
        context.out.json(&list)?;
        return Ok(Exit::Done);
    }
    if prompts.is_empty() {
        context.out.say("there is no prompt yet");
        context
            .out
            .hint(&format!("`{} prompt add FILE --model MODEL` adds one", context.program()));
    }
    let lines: Vec<[String; 5]> = prompts
        .iter()
        .map(|prompt| {
            [
                prompt.name.clone(),
                format!("v{}", prompt.version),
                prompt.spec.model.to_string(),
                count(prompt.requests, "request"),
                if prompt.is_live { "" } else { "(old version)" }.to_owned(),
            ]
        })
        .collect();
    context.out.data(&aligned(&lines).into_iter().map(|line| line + "\n").collect::<String>())?;
    Ok(Exit::Done)
}

fn as_json(prompt: &PromptRecord) -> serde_json::Value {
    json!({
        "name": prompt.name, "version": prompt.version, "model": prompt.spec.model.to_string(),
        "endpoint": prompt.spec.endpoint.as_str(), "live": prompt.is_live, "requests": prompt.requests,
        "created_at": moment(prompt.created_at), "source": prompt.spec.source,
    })
}

fn show(args: &ShowArgs, context: &Context) -> Result<Exit, Failure> {
    let prompts = context.open_to_read()?.prompts()?;
    let prompt = match &args.name {
        Some(name) => find(&prompts, name)?,
        None => match prompts.iter().filter(|prompt| prompt.is_live).collect::<Vec<_>>()[..] {
            [only] => only,
            _ => return Err(Failure::usage(which(&prompts)).hint(names(&prompts))),
        },
    };
    if context.out.is_json() {
        context.out.json(&as_json(prompt))?;
        return Ok(Exit::Done);
    }
    context.out.say(&format!("{}, added {}", title(prompt), moment(prompt.created_at)));
    if let AnswerFormat::Choices(labels) = &prompt.spec.answer {
        context.out.say(&format!("an answer is one of {}", labels.join(", ")));
    }
    let source = &prompt.spec.source;
    context.out.data(source)?;
    if !source.ends_with('\n') {
        context.out.data("\n")?;
    }
    Ok(Exit::Done)
}

fn diff(args: &DiffArgs, context: &Context) -> Result<Exit, Failure> {
    let prompts = context.open_to_read()?.prompts()?;
    let (old, new) = if let Some(new) = &args.new {
        (find(&prompts, &args.old)?, find(&prompts, new)?)
    } else {
        let newest = find(&prompts, &args.old)?;
        if newest.version == 1 {
            return Err(Failure::error(format!("prompt {} has one version only", newest.name))
                .hint(format!(
                    "`{} prompt add FILE --name {}` makes its next one",
                    context.program(),
                    shell_word(&newest.name)
                )));
        }
        let before = format!("{}@{}", newest.name, newest.version.saturating_sub(1));
        (find(&prompts, &before)?, newest)
    };
    let mut text = format!("--- {}@{}\n+++ {}@{}\n", old.name, old.version, new.name, new.version);
    if old.spec.model != new.spec.model {
        text.push_str(&format!("-model: {}\n+model: {}\n", old.spec.model, new.spec.model));
    }
    text.push_str(&lines_that_differ(&old.spec.source, &new.spec.source));
    context.out.data(&text)?;
    Ok(Exit::Done)
}

/// Returns the lines of both texts, those of only one marked; by the longest common subsequence.
fn lines_that_differ(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < old.len() || j < new.len() {
        let (sign, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            (' ', old[i - 1])
        } else if j >= new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        text.push(sign);
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Finds a prompt by NAME (its live version) or NAME@VERSION.
pub(crate) fn find<'p>(
    prompts: &'p [PromptRecord],
    name: &str,
) -> Result<&'p PromptRecord, Failure> {
    let (base, version) = match name.rsplit_once('@') {
        Some((base, version)) => (base, version.parse::<u32>().ok()),
        None => (name, None),
    };
    prompts
        .iter()
        .find(|prompt| match version {
            Some(version) => prompt.name == base && prompt.version == version,
            None => prompt.name == name && prompt.is_live,
        })
        .ok_or_else(|| {
            let near = closest(base, prompts.iter().map(|prompt| prompt.name.as_str()));
            let failure = Failure::error(format!("there is no prompt {name:?}"));
            let failure = match near.filter(|near| *near != base) {
                Some(near) => failure.hint(format!("did you mean {near:?}?")),
                None => failure,
            };
            failure.hint(names(prompts))
        })
}

fn which(prompts: &[PromptRecord]) -> &'static str {
    match prompts.is_empty() {
        true => "there is no prompt yet",
        false => "there are several prompts, and none was named",
    }
}

fn names(prompts: &[PromptRecord]) -> String {
    let names: Vec<String> =
        prompts.iter().map(|prompt| format!("{}@{}", prompt.name, prompt.version)).collect();
    match names.len() {
        0 => "`overnight prompt add FILE --model MODEL` adds one".to_owned(),
        1 => format!("there is {}", names.join(", ")),
        _ => format!("there are {}", names.join(", ")),
    }
}
