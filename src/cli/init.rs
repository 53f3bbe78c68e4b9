//! `overnight init`: makes a project, with its first prompt if one is given.

use serde_json::json;

use super::failure::{Exit, Failure};
use super::price::OwnPrice;
use super::prompt::{self, PromptOptions, Source};
use super::text::whole;
use super::{Context, server};
use crate::domain::PriceOrigin;
use crate::engine::Clock;
use crate::store::{Create, Store, StoreError};

/// Make a project in the current folder; an existing file is never overwritten.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight init --prompt 'Is this positive or negative? {{ review }}' --model gpt-5-mini
  overnight init --prompt sentiment.prompt --model groq/openai/gpt-oss-20b
  overnight init --prompt sentiment.prompt --model qwen3 --base-url http://localhost:8000/v1
  overnight -p survey.db init

The key is read from the environment (OPENAI_API_KEY …) or from .env when a run starts, and is
never written down.")]
pub(crate) struct Args {
    /// The first prompt: a file, or the text itself. {{ column }} stands for a cell.
    #[arg(long, value_name = "TEXT|FILE", allow_hyphen_values = true)]
    prompt: Option<String>,
    #[command(flatten)]
    options: PromptOptions,
    #[command(flatten)]
    price: OwnPrice,
    /// Where the provider `openai` is: any OpenAI-compatible server.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// How many attempts a request may use up before it counts as failed.
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true, value_parser = whole::<u32>(1, Some(100)))]
    max_attempts: u32,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if let Some(url) = &args.base_url {
        server::check_base_url(url, "--base-url")?;
    }
    if context.project.exists() {
        return Err(StoreError::Exists { path: context.project.clone() }.into());
    }
    let prompt = if let Some(given) = &args.prompt {
        let source = Source::TextOrFile(given.clone());
        Some(prompt::read(&source, &args.options, args.base_url.as_deref(), context)?)
    } else {
        args.options.must_be_empty()?;
        args.price.must_be_empty()?;
        None
    };
    let now = Clock::now();
    let new = Create {
        path: &context.project,
        now,
        token: &token(),
        base_url: args.base_url.as_deref(),
        max_attempts: args.max_attempts,
    };
    let mut prices = Vec::new();
    if let Some(prompt) = &prompt {
        let price = args.price.or(prompt.price.clone());
        let model = &prompt.spec.model;
        if !price.is_empty() {
            let terms = price.onto(None, (model, &context.program()))?;
            prices.push((model.to_string(), terms));
        }
    }
    Store::create(&new, |store| {
        if let Some(prompt) = &prompt {
            store.add_prompt(&prompt.name, &prompt.spec, now)?;
        }
        store.set_prices(&prices, PriceOrigin::Own, now).map(drop)
    })?;
    if let Some(url) = &args.base_url {
        server::warn_of_clear_text(url, context);
    }
    report(context, prompt.as_ref())
}

fn report(context: &Context, prompt: Option<&prompt::Ready>) -> Result<Exit, Failure> {
    let path = context.project.display();
    if context.out.is_json() {
        let model = prompt.map(|prompt| prompt.spec.model.to_string());
        let name = prompt.map(|prompt| prompt.name.clone());
        context.out.json(&json!({"project": path.to_string(), "prompt": name, "model": model}))?;
        return Ok(Exit::Done);
    }
    if let Some(prompt) = prompt {
        context
            .out
            .say(&format!("made {path} with prompt {} for {}", prompt.name, prompt.spec.model));
        prompt.warn(context);
        context.out.hint(&format!("`{} add FILE` adds rows", context.program()));
    } else {
        context.out.say(&format!("made {path}"));
        context.out.hint(&format!(
            "`{} prompt add FILE --model MODEL` adds a prompt, `{} add FILE` adds rows",
            context.program(),
            context.program()
        ));
    }
    Ok(Exit::Done)
}

/// Returns twelve letters and digits that no other project has.
fn token() -> String {
    let mut rng = fastrand::Rng::new();
    (0..12).map(|_| rng.alphanumeric().to_ascii_lowercase()).collect()
}
