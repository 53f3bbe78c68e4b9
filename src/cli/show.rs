//! `overnight show`: the whole trail of one row, from its line in a file to its answer.
//!
//! The page cuts long cells and errors; `--json`, `--request` and `--reply` leave nothing out.

mod json;
mod page;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::failure::{Exit, Failure};
use super::rows::{self, Wording};
use super::{Context, shell_word};
use crate::domain::{AttemptId, BatchId, State, UnixMs, custom_id};
use crate::engine::Clock;
use crate::machine::closest::closest;
use crate::machine::plan::{Liveness, observed};
use crate::store::{
    BatchRecord, PromptRecord, RequestPlace, Store, StoreError, TrailAttempt, TrailRequest,
    TrailRow,
};

/// Show the whole trail of one row: where it came from, what was sent, what came back, what it cost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight show review-17
  overnight show '#12'                       in quotes: a bare # starts a comment
  overnight show '#12' --prompt label@1      an older version of a prompt
  overnight show '#12' --request | sha256sum
  overnight show '#12' --reply | jq .usage

Rows that were added without --key have hashes for keys: name them by position.")]
pub(crate) struct Args {
    /// The row, by its key or as '#POSITION'; where it could be either, the key counts.
    #[arg(value_name = "ROW_KEY|#POSITION")]
    row: Option<String>,
    /// Show only this prompt, or an older version of it.
    #[arg(long, value_name = "NAME[@VERSION]")]
    prompt: Option<String>,
    /// Print nothing but the exact bytes of the request's body, as they were last sent.
    #[arg(long, conflicts_with = "reply")]
    request: bool,
    /// Print nothing but the raw bytes of the last reply, as the provider sent them: of a batch, its line.
    #[arg(long)]
    reply: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Some(name) = &args.row else { return Err(no_row(context)) };
    let store = context.open_to_read()?;
    store.as_of_now(|store| tell(&args, name, store, context))
}

fn tell(args: &Args, name: &String, store: &Store, context: &Context) -> Result<Exit, Failure> {
    let Some(row) = store.find_row(name)? else {
        let wording =
            Wording { command: "show", thing: "row", others: Vec::new(), consequence: "" };
        return Err(rows::unknown(store, std::slice::from_ref(name), &wording, context)?);
    };
    let prompts = prompts(store, args.prompt.as_deref(), context)?;
    let trail = read(store, row, prompts, (context.liveness(store)?, Clock::now()))?;
    if args.request || args.reply {
        context.out.bytes(evidence(&trail, args, context)?)?;
    } else if context.out.is_json() {
        context.out.json(&json::json(&trail))?;
    } else {
        context.out.data(&page::page(&trail))?;
        if trail.prompts.is_empty() {
            let program = context.program();
            context.out.hint(&format!("`{program} prompt add FILE` adds the prompt"));
        }
    }
    Ok(Exit::Done)
}

fn no_row(context: &Context) -> Failure {
    let program = context.program();
    Failure::usage("no row was named").hint(format!(
        "`{program} show KEY` or `{program} show '#1'`; a shell takes a # without quotes for a comment"
    ))
}

/// A row with what each prompt came to on it.
struct Trail {
    row: TrailRow,
    prompts: Vec<PromptTrail>,
    liveness: Liveness,
    /// When all this was read.
    now: UnixMs,
}

/// The batch of an attempt, and where it stands in its input file.
struct InBatch {
    batch: BatchRecord,
    custom_id: String,
    /// From 1.
    input_line: u64,
}

/// What one prompt came to.
struct PromptTrail {
    prompt: PromptRecord,
    /// The state of its request; pending where none was made.
    state: State,
    request: Option<TrailRequest>,
    /// Whose request brought the reply, where it is not this one's own.
    shared_from: Option<RequestPlace>,
    /// Of those attempts that went in a batch.
    batches: HashMap<AttemptId, InBatch>,
}

impl PromptTrail {
    fn attempts(&self) -> &[TrailAttempt] {
        self.request.as_ref().map_or(&[], |request| &request.attempts)
    }

    /// Says whether an attempt was made for another request, which shares its reply.
    fn is_shared(&self, attempt: &TrailAttempt) -> bool {
        self.request.as_ref().is_some_and(|request| request.id != attempt.request)
    }

    /// Returns the accepted answer; one that a person asked to have anew is an older attempt's only.
    fn answer(&self) -> Option<&str> {
        let deciding = self.request.as_ref()?.deciding?;
        let attempt = self.attempts().iter().find(|attempt| attempt.id == deciding)?;
        attempt.answer.as_deref().filter(|_| self.state == State::Answered)
    }

    /// Returns the bytes that were last sent, or stand ready to be.
    fn last_sent(&self) -> Option<&[u8]> {
        let own = self.request.as_ref()?.body.as_deref();
        self.attempts().last().and_then(|attempt| attempt.sent_body.as_deref()).or(own)
    }

    fn last_reply(&self) -> Option<&[u8]> {
        self.attempts().iter().rev().find_map(|attempt| attempt.reply.as_deref())
    }
}

fn read(
    store: &Store,
    row: TrailRow,
    prompts: Vec<PromptRecord>,
    (liveness, now): (Liveness, UnixMs),
) -> Result<Trail, StoreError> {
    let prompts = prompts.into_iter().map(|prompt| {
        let request = store.trail(row.id, prompt.id)?;
        let stands = request.as_ref().map_or(State::Pending, |request| request.state);
        let others = request.as_ref().and_then(|request| {
            request.attempts.iter().map(|attempt| attempt.request).find(|id| *id != request.id)
        });
        let shared_from = others.map(|request| store.place_of(request)).transpose()?;
        let mut batches = HashMap::new();
        for attempt in request.iter().flat_map(|request| &request.attempts) {
            batches.extend(in_batch(store, attempt)?.map(|batch| (attempt.id, batch)));
        }
        let state = observed(stands, liveness);
        Ok(PromptTrail { prompt, state, request, shared_from, batches })
    });
    let prompts = prompts.collect::<Result<_, StoreError>>()?;
    Ok(Trail { row, prompts, liveness, now })
}

fn in_batch(store: &Store, attempt: &TrailAttempt) -> Result<Option<InBatch>, StoreError> {
    let Some(id) = attempt.batch.map(BatchId) else { return Ok(None) };
    let Some(batch) = store.batch(id)? else { return Ok(None) };
    Ok(Some(InBatch {
        custom_id: custom_id(&batch.new.token, attempt.id),
        input_line: store.input_line_number((id, attempt.id))?,
        batch,
    }))
}

/// Returns the prompts to show: the live ones, or the one that is named.
fn prompts(
    store: &Store,
    named: Option<&str>,
    context: &Context,
) -> Result<Vec<PromptRecord>, Failure> {
    let Some(named) = named else { return Ok(store.live_prompts()?) };
    let all = store.prompts()?;
    match pick(&all, named) {
        Some(prompt) => Ok(vec![prompt.clone()]),
        None => Err(unknown_prompt(&all, named, context)),
    }
}

/// Finds a prompt by name, in its newest version, or by `NAME@VERSION`.
fn pick<'p>(all: &'p [PromptRecord], named: &str) -> Option<&'p PromptRecord> {
    let newest =
        all.iter().filter(|prompt| prompt.name == named).max_by_key(|prompt| prompt.version);
    newest.or_else(|| {
        let (name, version) = named.rsplit_once('@')?;
        let version: u32 = version.parse().ok()?;
        all.iter().find(|prompt| prompt.name == name && prompt.version == version)
    })
}

fn unknown_prompt(all: &[PromptRecord], named: &str, context: &Context) -> Failure {
    let failure = Failure::error(format!("there is no prompt {named:?}"));
    let mut versions: Vec<String> =
        all.iter().map(|prompt| format!("{}@{}", prompt.name, prompt.version)).collect();
    if versions.is_empty() {
        return failure.hint(format!("`{} prompt add FILE` adds one", context.program()));
    }
    let bare = all.iter().map(|prompt| prompt.name.as_str());
    let failure = match closest(named, bare.chain(versions.iter().map(String::as_str))) {
        Some(word) => failure.hint(format!("did you mean `--prompt {}`?", shell_word(word))),
        None => failure,
    };
    let most = versions.len().saturating_sub(12);
    versions.drain(..most);
    failure.hint(format!("on record: {}", versions.join(", ")))
}

/// Returns the bytes that `--request` or `--reply` asks for.
fn evidence<'t>(trail: &'t Trail, args: &Args, context: &Context) -> Result<&'t [u8], Failure> {
    let (option, what) = if args.request { ("--request", "request") } else { ("--reply", "reply") };
    if context.out.is_json() {
        return Err(Failure::usage(format!("{option} prints bytes, --json prints JSON: not both"))
            .hint(format!("--json holds the {what} as well")));
    }
    let [only] = trail.prompts.as_slice() else {
        return Err(not_one_prompt(trail, option));
    };
    let bytes = if args.request { only.last_sent() } else { only.last_reply() };
    bytes.ok_or_else(|| {
        let program = context.program();
        let of = format!("row #{} for prompt {:?}", trail.row.position, only.prompt.name);
        Failure::error(format!(
            "there is no {what} on record of {of}: it is {}",
            match only.state {
                State::InBatch => "still in a batch".to_owned(),
                state => state.as_str().replace('_', " "),
            }
        ))
        .hint(format!("`{program} show '#{}'` shows what there is", trail.row.position))
    })
}

fn not_one_prompt(trail: &Trail, option: &str) -> Failure {
    if trail.prompts.is_empty() {
        return Failure::error("there is no prompt yet, so nothing was sent");
    }
    let names: Vec<&str> = trail.prompts.iter().map(|one| one.prompt.name.as_str()).collect();
    Failure::usage(format!("{option} prints the bytes of one prompt, and there are several"))
        .hint(format!("say which with --prompt: {}", names.join(", ")))
}
