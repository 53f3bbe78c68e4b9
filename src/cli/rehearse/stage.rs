//! What a rehearsal plays on: the project's prompts, and a simulated provider in the place of each of its servers, with
//! the limits, times and answers that the real ones are known to have.
//!
//! Names on record stay as they are, so that what was learned of a server is found. The URLs lead nowhere: to hosts that
//! exist on no network, and by a wire that has no socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::Args;
use super::assumed::{Assumed, From, Known};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::prices::PriceBook;
use crate::cli::server::{self, Place};
use crate::cli::tasks;
use crate::domain::AnswerFormat;
use crate::engine::{BatchServer, Clock, Server, Task};
use crate::machine::answer_check::{wire_schema, words};
use crate::machine::request::InDoubtPolicy;
use crate::provider::batch::BatchUrls;
use crate::provider::endpoint_url;
use crate::simulate::{
    AnswerLength, AskedInWords, Exchange, Keeps, Likeness, ModelLikeness, Remembers, Settings,
    Takes, wired_by,
};
use crate::store::{PastAnswer, PromptRecord, Store};

/// How long a call takes, where no call is on record.
const LATENCY: Duration = Duration::from_secs(1);
/// How long a batch takes, where no batch is on record.
const BATCH_DELAY: Duration = Duration::from_hours(1);
/// How far the latency of calls varies.
const JITTER: f64 = 0.25;

/// How far the time of batches varies. No two end together, so that their results are never all in memory.
const BATCH_JITTER: f64 = 0.05;

/// What a rehearsal plays on.
pub(super) struct Stage {
    pub(super) tasks: Vec<Task>,
    /// By their names on record.
    pub(super) servers: HashMap<String, Arc<BatchServer>>,
    pub(super) exchange: Exchange,
    /// What is taken to be so, model by model.
    pub(super) assumed: Vec<Assumed>,
}

/// A server that is played.
struct Played {
    name: String,
    place: Place,
    provider: &'static crate::provider::catalog::Provider,
    prompts: Vec<PromptRecord>,
}

impl Stage {
    /// Sets up all that the live prompts need.
    pub(super) fn set(
        (store, clock): (&Store, Clock),
        (args, in_doubt): (&Args, InDoubtPolicy),
        book: &PriceBook,
        context: &Context,
    ) -> Result<Self, Failure> {
        let project = store.project()?;
        let base_url = args.base_url.as_deref().or(project.base_url.as_deref());
        let mut stage = Self {
            tasks: Vec::new(),
            servers: HashMap::new(),
            exchange: Exchange::default(),
            assumed: Vec::new(),
        };
        for (number, played) in servers(store, base_url, context)?.into_iter().enumerate() {
            let host = format!("server-{number}.rehearsal.invalid");
            let base = format!("http://{host}/v1");
            let (likeness, assumed, batch_delay) = likeness(store, &played, (args, book))?;
            let settings = settings(args, &played, (likeness, batch_delay.value));
            let provider = wired_by(clock, settings).map_err(|error| {
                Failure::error("cannot set up the simulated provider").caused_by(&error)
            })?;
            stage.exchange.providers.insert(host, provider);
            stage.assumed.extend(assumed);
            if let Some(server) = batch_server(&played, &base)? {
                stage.servers.insert(played.name.clone(), Arc::new(server));
            }
            for prompt in &played.prompts {
                let policy = project.policy(&prompt.spec, in_doubt);
                let server = server_of(&played, prompt, &base)?;
                let parts = tasks::parts(prompt, policy, book)?;
                stage.tasks.push(Task::new(prompt.clone(), server, parts));
            }
        }
        Ok(stage)
    }
}

/// Returns the servers of all live prompts, each with its prompts.
fn servers(
    store: &Store,
    base_url: Option<&str>,
    context: &Context,
) -> Result<Vec<Played>, Failure> {
    let mut servers: Vec<Played> = Vec::new();
    for prompt in store.live_prompts()? {
        let place = tasks::place_of(&prompt, base_url, context)?;
        let provider = server::provider(&prompt.spec.model)?;
        let name = server::name(&place).to_owned();
        match servers.iter_mut().find(|server| server.name == name) {
            Some(server) => server.prompts.push(prompt),
            None => servers.push(Played { name, place, provider, prompts: vec![prompt] }),
        }
    }
    Ok(servers)
}

fn settings(
    args: &Args,
    played: &Played,
    (likeness, batch_delay): (Likeness, Duration),
) -> Settings {
    let profile = played.provider.batches;
    let plain = Settings::new(Clock::now);
    Settings {
        seed: args.ways.seed,
        latency: LATENCY,
        latency_jitter: JITTER,
        // Where the window is not known, none is made up.
        context_tokens: u32::MAX,
        faults: args.faults.clone(),
        batch_delay,
        batch_requests: profile.map_or(plain.batch_requests, |profile| profile.max_requests as u32),
        batch_bytes: profile.map_or(plain.batch_bytes, |profile| profile.max_bytes),
        likeness: Arc::new(likeness),
        ..plain
    }
}

/// Gathers what is known of the models of a server.
fn likeness(
    store: &Store,
    played: &Played,
    (args, book): (&Args, &PriceBook),
) -> Result<(Likeness, Vec<Assumed>, Known<Duration>), Failure> {
    let batch_delay = match (args.batch_delay, store.usual_batch(&played.name)?) {
        (Some(given), _) => Known { value: given, from: From::Option("--batch-delay") },
        (None, Some((mean, batches))) => Known { value: mean, from: From::Batches(batches) },
        (None, None) => Known { value: BATCH_DELAY, from: From::Nowhere("--batch-delay") },
    };
    let is_openai = match played.place {
        Place::Embedded => true,
        Place::Own(_) => played.provider.name == "openai",
        Place::Custom(_) => false,
    };
    let mut likeness = Likeness {
        takes: if is_openai { Takes::WhatOpenAiDoes } else { Takes::Anything },
        remembers: match args.faults.rules().is_empty() {
            true => Remembers::SumsAlone,
            false => Remembers::EachBody,
        },
        keeps: Keeps::Packed,
        batch_jitter: BATCH_JITTER,
        in_words: played.prompts.iter().filter_map(in_words).collect(),
        ..Likeness::default()
    };
    let mut assumed: Vec<Assumed> = Vec::new();
    for prompt in &played.prompts {
        let model = &prompt.spec.model;
        if likeness.models.contains_key(&model.model) {
            continue;
        }
        let (one, known) = model_likeness(store, (played, prompt), (args, book))?;
        likeness.models.insert(model.model.clone(), one);
        assumed.push(Assumed { batch_delay, ..known });
    }
    Ok((likeness, assumed, batch_delay))
}

fn model_likeness(
    store: &Store,
    (played, prompt): (&Played, &PromptRecord),
    (args, book): (&Args, &PriceBook),
) -> Result<(ModelLikeness, Assumed), Failure> {
    let model = &prompt.spec.model;
    let name = model.to_string();
    let told = store.rate_limit(&played.name, &name)?;
    let rate = |told: Option<u64>, given: Option<u32>, option| match (told, given) {
        (Some(told), _) => Some(Known { value: told, from: From::Provider }),
        (None, Some(given)) => Some(Known { value: u64::from(given), from: From::Option(option) }),
        (None, None) => None,
    };
    let rpm = rate(told.requests, args.rpm, "--rpm");
    let tpm = rate(told.tokens, args.tpm, "--tpm");
    let queue = match (args.enqueued_tokens, store.queue_limit(&played.name, &name)?) {
        (Some(given), _) => Some(Known { value: given, from: From::Option("--enqueued-tokens") }),
        (None, Some(told)) => Some(Known { value: told, from: From::Provider }),
        (None, None) => None,
    };
    let latency = match (args.latency, store.usual_latency(&name)?) {
        (Some(given), _) => Known { value: given, from: From::Option("--latency") },
        (None, Some((mean, calls))) => Known { value: mean, from: From::Calls(calls) },
        (None, None) => Known { value: LATENCY, from: From::Nowhere("--latency") },
    };
    let prices = book.of_prompt(&prompt.spec);
    let mut past = Vec::new();
    for one in played.prompts.iter().filter(|one| one.spec.model == *model) {
        past.extend(store.past_answers(one.id)?);
    }
    let per_minute = |known: Option<Known<u64>>| {
        known.map(|known| u32::try_from(known.value).unwrap_or(u32::MAX).max(1))
    };
    let likeness = ModelLikeness {
        rpm: per_minute(rpm),
        tpm: per_minute(tpm),
        input_tokens: prices.max_input_tokens,
        output_tokens: prices.max_output_tokens,
        enqueued_tokens: queue.map(|queue| queue.value),
        latency: Some(latency.value),
        answers: past.iter().map(length).collect(),
    };
    let known = Assumed {
        model: name,
        server: played.name.clone(),
        has_batches: server::has_batches(played.provider, &played.place),
        rpm,
        tpm,
        queue,
        latency,
        batch_delay: Known { value: BATCH_DELAY, from: From::Nowhere("--batch-delay") },
        most_input: prices.max_input_tokens,
        most_output: prices.max_output_tokens,
        answers: past.len() as u64,
        answer_tokens: mean(&past),
    };
    Ok((likeness, known))
}

/// An answer that was cut would have been longer, nobody knows by how much: at the same limit it is cut again.
fn length(past: &PastAnswer) -> AnswerLength {
    let times = if past.was_cut { 2 } else { 1 };
    AnswerLength { output: past.output.saturating_mul(times), reasoning: past.reasoning }
}

/// Returns the mean of those that were not cut.
fn mean(answers: &[PastAnswer]) -> Option<f64> {
    let whole = answers.iter().filter(|answer| !answer.was_cut);
    let (sum, count) = whole.fold((0, 0), |(sum, count), one| (sum + one.output, count + 1u64));
    (count > 0).then(|| sum as f64 / count as f64)
}

/// Returns what a prompt asks for in words, where it ever does.
fn in_words(prompt: &PromptRecord) -> Option<AskedInWords> {
    let format = &prompt.spec.answer;
    let bare = match format {
        AnswerFormat::Choices(_) => Some("answer"),
        AnswerFormat::Text | AnswerFormat::Schema(_) => None,
    };
    Some(AskedInWords { sentence: words(format)?, schema: wire_schema(format)?, bare })
}

fn server_of(played: &Played, prompt: &PromptRecord, base: &str) -> Result<Server, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Server {
        name: played.name.clone(),
        has_batches: server::has_batches(played.provider, &played.place),
        url: endpoint_url(base, prompt.spec.endpoint).map_err(|error| wrong_url(&error))?,
        headers,
        key: None,
    })
}

fn batch_server(played: &Played, base: &str) -> Result<Option<BatchServer>, Failure> {
    let Some(profile) = played.provider.batches else { return Ok(None) };
    let urls = BatchUrls::new(base).map_err(|error| wrong_url(&error))?;
    let (headers, key) = (HeaderMap::new(), None);
    Ok(Some(BatchServer { urls, headers, key, profile: *profile, is_embedded: false }))
}

fn wrong_url(error: &dyn std::error::Error) -> Failure {
    Failure::error("cannot set up the simulated provider").caused_by(error)
}
