//! `overnight price`: what tokens cost in this project, and by whose word.
//!
//! What is on record as spent keeps its cost: a price counts from when it is set.

use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::page::aligned;
use super::prices::{Origin, PriceBook, PricesArg, wanted};
use super::prompt::model_name;
use super::text::{moment, thousands, whole};
use super::{Context, server, shell_word};
use crate::domain::{LongPrice, ModelName, NanoUsd, Price, PriceOrigin};
use crate::engine::Clock;
use crate::input::prompt_file::WrittenPrice;
use crate::machine::prices::{ListedPrice, Terms, usd_per_mtok};
use crate::store::{PromptRecord, Store};

/// Show what models cost, or set what one costs in this project, in US dollars per million tokens.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  overnight price                       what the models of the prompts cost, and by whose word
  overnight price --prices prices.json  what they would cost by a file
  overnight price gpt-5-mini --price-in 0.25 --price-cached 0.025 --price-out 2 --batch-discount 50
  overnight price qwen3 --price-in 0 --price-out 0 --max-output-tokens 8192
  overnight price qwen3 --remove

A price that is set here counts before one of a file, and that before the table in the program;
`overnight run --prices FILE` remembers what its file says of the models that it asks. Where no
cached price is said, cached tokens cost what others do; where no discount is said, a batch costs
what is usual at the provider. What is on record as spent stays as it is.")]
pub(crate) struct Args {
    /// The model as PROVIDER/MODEL; a bare name is OpenAI's. Without one, those of all prompts, as with `list`.
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    own: OwnPrice,
    /// What a million tokens that the model thinks with cost; else as much as other output.
    #[arg(long, value_name = "USD", value_parser = parse_usd, allow_negative_numbers = true)]
    price_reasoning: Option<NanoUsd>,
    /// What a million input tokens cost that the provider puts into its cache; else as much as others.
    #[arg(long, value_name = "USD", value_parser = parse_usd, allow_negative_numbers = true)]
    price_cache_write: Option<NanoUsd>,
    /// The most tokens that a reply can have, where the prompt sets no limit.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, None), allow_negative_numbers = true)]
    max_output_tokens: Option<u64>,
    /// Forget the price that was set, or that a file brought.
    #[arg(long, conflicts_with_all = ["price_in", "price_out", "price_cached", "price_reasoning", "price_cache_write", "batch_discount", "max_output_tokens"])]
    remove: bool,
    #[command(flatten)]
    prices: PricesArg,
}

/// A price that a person sets, wherever they do.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnPrice {
    /// What a million input tokens cost.
    #[arg(long, value_name = "USD", value_parser = parse_usd, allow_negative_numbers = true)]
    pub(crate) price_in: Option<NanoUsd>,
    /// What a million output tokens cost.
    #[arg(long, value_name = "USD", value_parser = parse_usd, allow_negative_numbers = true)]
    pub(crate) price_out: Option<NanoUsd>,
    /// What a million input tokens cost that the provider had in its cache; else as much as others.
    #[arg(long, value_name = "USD", value_parser = parse_usd, allow_negative_numbers = true)]
    pub(crate) price_cached: Option<NanoUsd>,
    /// How much less a batch costs, in percent; else what is usual at the provider.
    #[arg(long, value_name = "PERCENT", value_parser = whole::<u8>(0, Some(100)), allow_negative_numbers = true)]
    pub(crate) batch_discount: Option<u8>,
}

fn parse_usd(text: &str) -> Result<NanoUsd, String> {
    usd_per_mtok(text.strip_prefix('$').unwrap_or(text)).ok_or_else(|| {
        "write an amount of US dollars per million tokens, such as 2 or 0.15".to_owned()
    })
}

impl From<WrittenPrice> for OwnPrice {
    fn from(written: WrittenPrice) -> Self {
        let WrittenPrice { price_in, price_out, price_cached, batch_discount } = written;
        Self { price_in, price_out, price_cached, batch_discount }
    }
}

impl OwnPrice {
    /// Refuses a price that would have no model to go to.
    pub(crate) fn must_be_empty(&self) -> Result<(), Failure> {
        match self.is_empty() {
            true => Ok(()),
            false => {
                Err(Failure::usage("a price is said of a prompt's model, and there is no prompt")
                    .hint("`overnight init --prompt TEXT|FILE …` gives one"))
            }
        }
    }

    /// Says whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the same with what is not said taken from `other`.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            price_in: self.price_in.or(other.price_in),
            price_out: self.price_out.or(other.price_out),
            price_cached: self.price_cached.or(other.price_cached),
            batch_discount: self.batch_discount.or(other.batch_discount),
        }
    }

    /// Returns the price of a model that this makes of the one that was set before; none where nothing is said.
    pub(crate) fn onto_that_of(
        &self,
        store: &Store,
        model: &ModelName,
        program: &str,
    ) -> Result<Vec<(ModelName, Terms)>, Failure> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let terms = self.onto(own(store, model)?, (model, program))?;
        Ok(vec![(model.clone(), terms)])
    }

    /// Returns the terms that this makes of what was said before.
    pub(crate) fn onto(
        &self,
        before: Option<Terms>,
        (model, program): (&ModelName, &str),
    ) -> Result<Terms, Failure> {
        let of = |said: Option<NanoUsd>, before: Option<NanoUsd>| said.or(before);
        let price_in = of(self.price_in, before.as_ref().map(|terms| terms.price_in));
        let price_out = of(self.price_out, before.as_ref().map(|terms| terms.price_out));
        let (Some(price_in), Some(price_out)) = (price_in, price_out) else {
            let model = shell_word(&model.to_string());
            return Err(Failure::usage(format!(
                "the price of {model} needs what tokens cost both in and out"
            ))
            .hint(format!(
                "`{program} price {model} --price-in USD --price-out USD …`, in dollars per million tokens"
            )));
        };
        let before = before.unwrap_or_default();
        Ok(Terms {
            price_in,
            price_out,
            price_cached: of(self.price_cached, before.price_cached),
            batch_discount: self.batch_discount.or(before.batch_discount),
            ..before
        })
    }
}

pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let more = args.price_reasoning.or(args.price_cache_write).is_some()
        || args.max_output_tokens.is_some();
    let sets = !args.own.is_empty() || more;
    let given = args.model.as_deref().filter(|word| *word != "list" || sets || args.remove);
    let model = given.map(model_name).transpose().map_err(Failure::usage)?;
    match model {
        None if sets || args.remove => Err(Failure::usage("which model's price is meant?")
            .hint(format!("`{} price MODEL …` names it", context.program()))),
        None => list(None, &args.prices, context),
        Some(model) if args.remove => remove(&model, context),
        Some(model) if sets => set(&model, &args, context),
        Some(model) => list(Some(model), &args.prices, context),
    }
}

fn set(model: &ModelName, args: &Args, context: &Context) -> Result<Exit, Failure> {
    server::provider(model)?;
    let mut store = context.open()?;
    let terms = args.own.onto(own(&store, model)?, (model, &context.program()))?;
    let terms = Terms {
        price_reasoning: args.price_reasoning.or(terms.price_reasoning),
        price_cache_write: args.price_cache_write.or(terms.price_cache_write),
        max_output_tokens: args.max_output_tokens.or(terms.max_output_tokens),
        ..terms
    };
    set_all(&mut store, &[(model.clone(), terms)], context)?;
    if context.out.is_json() {
        let book = PriceBook::load(&store, &PricesArg::default())?;
        let known = book.listed(model);
        context.out.json(&as_json(model, known.as_ref().map(|(listed, from)| (listed, *from))))?;
    }
    if !wanted(&store)?.contains(model) {
        context.out.warn(&format!("no prompt of this project asks {model}"));
        context.out.hint(&format!("`{} price` shows the models that are asked", context.program()));
    }
    Ok(Exit::Done)
}

/// Returns what a person said of a model's price before.
fn own(store: &Store, model: &ModelName) -> Result<Option<Terms>, Failure> {
    let name = model.to_string();
    let record = store
        .prices()?
        .into_iter()
        .find(|record| record.origin == PriceOrigin::Own && record.model == name);
    Ok(record.and_then(|record| record.terms))
}

/// Puts prices on record and says what they come to.
pub(crate) fn set_all(
    store: &mut Store,
    prices: &[(ModelName, Terms)],
    context: &Context,
) -> Result<(), Failure> {
    if prices.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        prices.iter().map(|(model, terms)| (model.to_string(), terms.clone())).collect();
    store.set_prices(&rows, PriceOrigin::Own, Clock::now())?;
    for (model, terms) in prices {
        if terms.price_cached.is_some_and(|cached| cached > terms.price_in) {
            context.out.warn(&format!("cached tokens of {model} cost more than others"));
        }
        if !context.out.is_json() {
            let listed = terms.listed(&model.provider);
            context.out.say(&format!("{model} costs {}", in_words(&listed)));
        }
    }
    Ok(())
}

fn in_words(listed: &ListedPrice) -> String {
    let of = |price: &Price| {
        let cached = match price.cached_per_mtok == price.input_per_mtok {
            true => String::new(),
            false => format!(" ({} cached)", amount(price.cached_per_mtok)),
        };
        let written = match price.cache_write_per_mtok == price.input_per_mtok {
            true => String::new(),
            false => format!(" ({} put into the cache)", amount(price.cache_write_per_mtok)),
        };
        let reasoning = match price.reasoning_per_mtok == price.output_per_mtok {
            true => String::new(),
            false => format!(" ({} reasoning)", amount(price.reasoning_per_mtok)),
        };
        let (input, output) = (amount(price.input_per_mtok), amount(price.output_per_mtok));
        format!("{input} in{cached}{written}, {output} out{reasoning}")
    };
    let batch = match listed.batch == listed.price {
        true => "; as much in a batch".to_owned(),
        false => format!("; in a batch {}", of(&listed.batch)),
    };
    format!("{} per million tokens{batch}", of(&listed.price))
}

fn remove(model: &ModelName, context: &Context) -> Result<Exit, Failure> {
    let mut store = context.open()?;
    let gone = store.forget_price(&model.to_string())?;
    if context.out.is_json() {
        let origins: Vec<_> = gone.iter().map(|origin| origin.as_str()).collect();
        context.out.json(&json!({"model": model.to_string(), "removed": origins}))?;
        return Ok(Exit::Done);
    }
    if gone.is_empty() {
        context.out.say(&format!("no price of {model} is on record"));
    } else {
        let book = PriceBook::load(&store, &PricesArg::default())?;
        let now = book.listed(model).map(|(_, origin)| from(&origin, None));
        let now = now.map_or("has no known price now".to_owned(), |from| {
            format!("costs now what {from} says")
        });
        context.out.say(&format!("took the price of {model} away: it {now}"));
    }
    Ok(Exit::Done)
}

fn list(model: Option<ModelName>, prices: &PricesArg, context: &Context) -> Result<Exit, Failure> {
    let store = context.open_to_read()?;
    let (book, prompts, models) = store.as_of_now(|store| {
        let models = match model {
            Some(model) => vec![model],
            None => models(store)?,
        };
        let book = PriceBook::of_models(store, prices, &models)?;
        Ok::<_, Failure>((book, store.live_prompts()?, models))
    })?;
    if context.out.is_json() {
        let known = models.iter().map(|model| (model, book.listed(model)));
        let list: Vec<_> = known
            .map(|(model, known)| {
                as_json(model, known.as_ref().map(|(listed, origin)| (listed, *origin)))
            })
            .collect();
        context.out.json(&list)?;
        return Ok(Exit::Done);
    }
    if models.is_empty() {
        context.out.say("no prompt asks a model yet");
        return Ok(Exit::Done);
    }
    context.out.data(&page(&models, &book))?;
    hints(&prompts, (&book, &models), context);
    Ok(Exit::Done)
}

/// Lists the models that something is asked of, then those that a price was set for all the same.
fn models(store: &Store) -> Result<Vec<ModelName>, Failure> {
    let mut models = wanted(store)?;
    let on_record = store.prices()?;
    for model in on_record.iter().filter_map(|record| ModelName::parse(&record.model)) {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    Ok(models)
}

fn page(models: &[ModelName], book: &PriceBook) -> String {
    let mut lines = vec![
        ["model", "in", "cached", "cache write", "out", "reasoning", "from"].map(str::to_owned),
    ];
    for model in models {
        let name = model.to_string();
        let Some((listed, origin)) = book.listed(model) else {
            lines.push([
                name,
                "unknown".to_owned(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            continue;
        };
        lines.push(line(name, five(&listed.price), from(&origin, Some(&listed))));
        let below = |what: &str| format!("  {what}");
        if let Some(long) = listed.price.long {
            let above = format!("above {} tokens in", thousands(long.above_tokens));
            lines.push(line(below(&above), five_of_long(&long), String::new()));
        }
        lines.push(line(below("in a batch"), five(&listed.batch), String::new()));
        if let Some(long) = listed.batch.long {
            let above = format!("in a batch, above {}", thousands(long.above_tokens));
            lines.push(line(below(&above), five_of_long(&long), String::new()));
        }
    }
    let table: String = aligned(&lines).into_iter().map(|line| line + "\n").collect();
    format!("{table}\nin US dollars per million tokens\n")
}

fn line(name: String, five: [NanoUsd; 5], from: String) -> [String; 7] {
    let [input, cached, written, output, reasoning] = five.map(amount);
    [name, input, cached, written, output, reasoning, from]
}

fn hints(prompts: &[PromptRecord], (book, models): (&PriceBook, &[ModelName]), context: &Context) {
    let program = context.program();
    for prompt in book.missing(prompts) {
        let model = &prompt.spec.model;
        if book.listed(model).is_some() && models.contains(model) {
            context.out.warn(&format!(
                "prompt {} asks for a service tier whose price is not known",
                prompt.name
            ));
        }
    }
    let is_unknown = |model: &&ModelName| book.of(model).realtime.is_none();
    if let Some(model) = models.iter().find(is_unknown) {
        context.out.hint(&format!(
            "`{program} price {} --price-in USD --price-out USD` sets a price",
            shell_word(&model.to_string())
        ));
        context.out.hint(&format!(
            "`{program} price --prices FILE` looks into a table, such as LiteLLM's"
        ));
    }
}

/// Says where a price comes from.
fn from(origin: &Origin, listed: Option<&ListedPrice>) -> String {
    let day = |at: &crate::domain::UnixMs| moment(*at).chars().take(10).collect::<String>();
    let as_of = listed.and_then(|listed| listed.as_of);
    let as_of = as_of.map_or(String::new(), |day| format!(" as of {day}"));
    match origin {
        Origin::Own(at) => format!("set here on {}", day(at)),
        Origin::File => format!("the given file{as_of}"),
        Origin::Remembered(at) => format!("a file given on {}{as_of}", day(at)),
        Origin::Bundled => format!("the table in overnight{as_of}"),
    }
}

/// Returns an amount to its last digit.
fn amount(NanoUsd(nano): NanoUsd) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    let least = text.len() - 7;
    let mut end = text.len();
    while end > least && text.as_bytes()[end - 1] == b'0' {
        end -= 1;
    }
    format!("${}", &text[..end])
}

fn five(price: &Price) -> [NanoUsd; 5] {
    [
        price.input_per_mtok,
        price.cached_per_mtok,
        price.cache_write_per_mtok,
        price.output_per_mtok,
        price.reasoning_per_mtok,
    ]
}

fn five_of_long(long: &LongPrice) -> [NanoUsd; 5] {
    [
        long.input_per_mtok,
        long.cached_per_mtok,
        long.cache_write_per_mtok,
        long.output_per_mtok,
        long.reasoning_per_mtok,
    ]
}

fn as_json(model: &ModelName, known: Option<(&ListedPrice, Origin)>) -> Value {
    let usd = |five: [NanoUsd; 5]| {
        let [input, cached, written, output, reasoning] = five.map(NanoUsd::usd);
        json!({"in": input, "cached": cached, "cache_write": written, "out": output, "reasoning": reasoning})
    };
    let of = |price: &Price| {
        let mut value = usd(five(price));
        if let Some(long) = price.long {
            value["long"] = usd(five_of_long(&long));
            value["long"]["above_tokens"] = long.above_tokens.into();
        }
        value
    };
    let Some((listed, origin)) = known else {
        return json!({"model": model.to_string(), "from": null});
    };
    let (from, set_at) = match origin {
        Origin::Own(at) => ("own", Some(moment(at))),
        Origin::File => ("file", None),
        Origin::Remembered(at) => ("remembered", Some(moment(at))),
        Origin::Bundled => ("bundled", None),
    };
    json!({
        "model": model.to_string(), "from": from, "set_at": set_at,
        "as_of": listed.as_of.map(|day| day.to_string()),
        "usd_per_mtok": of(&listed.price), "batch_usd_per_mtok": of(&listed.batch),
        "max_input_tokens": listed.max_input_tokens, "max_output_tokens": listed.max_output_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_to_their_last_digit_and_at_least_in_cents() {
        for (nano, shown) in [
            (0, "$0.00"),
            (1, "$0.000000001"),
            (37_500_000, "$0.0375"),
            (250_000_000, "$0.25"),
            (2_000_000_000, "$2.00"),
            (180_100_000_000, "$180.10"),
        ] {
            assert_eq!(amount(NanoUsd(nano)), shown);
        }
    }
}
