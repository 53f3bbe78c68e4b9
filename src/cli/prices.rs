//! What tokens cost, as a command knows it: read once, then asked by everything that estimates, sends or checks.
//!
//! A price that is set for the project counts before one of a file that a person gave, that before one which a file
//! brought earlier, and that before the table in the program; but one for just this model counts before one for the
//! model of which it is a snapshot. Never guessed: a model in none of them has no price.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use super::failure::Failure;
use super::{program, shell_word};
use crate::domain::{ModelName, PriceOrigin, PromptSpec, UnixMs};
use crate::engine::{Prices, Task};
use crate::machine::prices::{
    CommunityError, ListedPrice, Nearness, PriceError, PriceTable, Terms,
};
use crate::store::{PromptRecord, Store, StoreError};

/// Where a command is told of prices.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct PricesArg {
    /// Read prices from FILE: LiteLLM's table, or a CSV. `overnight price` sets one by hand, and wins.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A person set it for this project, then.
    Own(UnixMs),
    /// It stands in the file that this command was given.
    File,
    /// It stood in a file that a run was given, then.
    Remembered(UnixMs),
    /// It stands in the table in the program.
    Bundled,
}

/// All prices that a command knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct PriceBook {
    /// First those that count before the others.
    tables: Vec<(PriceTable, Origin)>,
}

impl PriceBook {
    /// Opens the prices of a project, with those of a file that a person gave.
    pub(crate) fn load(store: &Store, given: &PricesArg) -> Result<Self, Failure> {
        Self::of_models(store, given, &wanted(store)?)
    }

    /// Opens the prices of a project, with those that a file has of some models.
    pub(crate) fn of_models(
        store: &Store,
        given: &PricesArg,
        models: &[ModelName],
    ) -> Result<Self, Failure> {
        let program = program(store.path());
        let (mut own, mut remembered) = (Vec::new(), Vec::new());
        for record in store.prices()? {
            let model = ModelName::parse(&record.model);
            let (Some(model), Some(terms)) = (model, record.terms) else {
                return Err(unreadable(&record.model, &program));
            };
            let mut table = PriceTable::default();
            let listed = terms.listed(&model.provider);
            table.insert(model, listed);
            match record.origin {
                PriceOrigin::Own => own.push((table, Origin::Own(record.set_at))),
                PriceOrigin::File => remembered.push((table, Origin::Remembered(record.set_at))),
            }
        }
        let mut tables = own;
        if let Some(path) = &given.prices {
            let own = Self { tables: tables.clone() };
            let wanted: Vec<_> = models.iter().filter(|model| !own.has(model)).cloned().collect();
            tables.push((read(path, &wanted, &program)?, Origin::File));
        }
        tables.extend(remembered);
        tables.extend(Self::bundled().tables);
        Ok(Self { tables })
    }

    /// Returns the prices that come with the program.
    pub(crate) fn bundled() -> Self {
        static TABLE: OnceLock<PriceTable> = OnceLock::new();
        let table = TABLE.get_or_init(PriceTable::bundled).clone();
        Self { tables: vec![(table, Origin::Bundled)] }
    }

    /// Says whether there is a price for just this model.
    fn has(&self, model: &ModelName) -> bool {
        self.tables.iter().any(|(table, _)| table.near(model, Nearness::Same).is_some())
    }

    /// Returns what a model's tokens cost.
    pub(crate) fn of(&self, model: &ModelName) -> Prices {
        self.listed(model).map(|(listed, _)| Prices::from(listed)).unwrap_or_default()
    }

    /// Returns what the tokens of a prompt's requests cost: a parameter may ask for what has another price than the one
    /// that tables know. One that a person set is meant for what they ask for.
    pub(crate) fn of_prompt(&self, spec: &PromptSpec) -> Prices {
        match self.listed(&spec.model) {
            Some((listed, Origin::Own(_))) => listed.into(),
            Some((listed, _)) if has_usual_price(spec) => listed.into(),
            // How long a reply can be does not hang on its price.
            Some((listed, _)) => Prices { realtime: None, batch: None, ..listed.into() },
            None => Prices::default(),
        }
    }

    /// Returns the price that counts for a model, and where it comes from.
    pub(crate) fn listed(&self, model: &ModelName) -> Option<(ListedPrice, Origin)> {
        let (_, listed, origin) = self.near(model).next()?;
        // Who sets a price need not say how much the model takes.
        let limit = |of: fn(&ListedPrice) -> Option<u64>| {
            self.near(model).find_map(|(_, listed, _)| of(listed))
        };
        let listed = ListedPrice {
            max_input_tokens: limit(|listed| listed.max_input_tokens),
            max_output_tokens: limit(|listed| listed.max_output_tokens),
            ..*listed
        };
        Some((listed, origin))
    }

    /// Returns the rows that come near to a model, the one that counts first.
    fn near<'a>(
        &'a self,
        model: &'a ModelName,
    ) -> impl Iterator<Item = (Nearness, &'a ListedPrice, Origin)> {
        Nearness::ALL.into_iter().flat_map(move |nearness| {
            let tables = self.tables.iter();
            tables.filter_map(move |(table, origin)| {
                Some((nearness, table.near(model, nearness)?, *origin))
            })
        })
    }

    /// Returns the prompts whose requests have no known price.
    pub(crate) fn missing<'a>(&self, prompts: &'a [PromptRecord]) -> Vec<&'a PromptRecord> {
        let is_unknown = |prompt: &&PromptRecord| self.of_prompt(&prompt.spec).realtime.is_none();
        prompts.iter().filter(is_unknown).collect()
    }

    /// Puts on record what this command's file says of the models that the project asks, so that whatever comes later of their
    /// requests has the same price.
    pub(crate) fn remember(&self, store: &mut Store, now: UnixMs) -> Result<(), Failure> {
        let mut rows = Vec::new();
        for model in wanted(store)? {
            let counts = self.near(&model).next();
            if let Some((nearness, listed, Origin::File)) = counts
                && let Some(name) = nearness.name(&model)
            {
                rows.push((name.to_string(), Terms::of(listed)));
            }
        }
        if !rows.is_empty() {
            store.set_prices(&rows, PriceOrigin::File, now)?;
        }
        Ok(())
    }
}

/// Lists the models that something is asked of: those of the live prompts, and those of batches that go on.
pub(crate) fn wanted(store: &Store) -> Result<Vec<ModelName>, StoreError> {
    let mut models: Vec<ModelName> =
        store.live_prompts()?.into_iter().map(|prompt| prompt.spec.model).collect();
    let open = store.open_batches()?;
    models.extend(open.iter().filter_map(|batch| ModelName::parse(&batch.new.model)));
    let mut seen = std::collections::HashSet::new();
    models.retain(|model| seen.insert(model.clone()));
    Ok(models)
}

/// Puts the prices that a run goes by, prompt by prompt, beside its settings: an audit holds its costs against them, whatever
/// counts by then.
pub(crate) fn beside(settings: &str, tasks: &[Task]) -> String {
    let price = |task: &Task| {
        let Prices { realtime, batch, .. } = task.price;
        let terms = realtime.zip(batch).map(|(price, batch)| Terms::of_prices(price, batch));
        (task.prompt.id.to_string(), serde_json::to_value(terms).unwrap_or_default())
    };
    let prices: serde_json::Map<String, Value> = tasks.iter().map(price).collect();
    match serde_json::from_str(settings) {
        Ok(Value::Object(mut settings)) => {
            settings.insert("prices".to_owned(), Value::Object(prices));
            Value::Object(settings).to_string()
        }
        Ok(_) | Err(_) => settings.to_owned(),
    }
}

/// Says whether requests are billed as tables know it. A flexible tier costs less, so that their price is a ceiling to it; one
/// that is faster, or that nobody has heard of, costs who knows what.
fn has_usual_price(spec: &PromptSpec) -> bool {
    match spec.parameters.get("service_tier") {
        None | Some(Value::Null) => true,
        Some(Value::String(tier)) => matches!(
            tier.as_str(),
            "auto" | "default" | "standard" | "standard_only" | "on_demand" | "flex"
        ),
        Some(_) => false,
    }
}

fn read(path: &Path, wanted: &[ModelName], program: &str) -> Result<PriceTable, Failure> {
    let shown = path.display().to_string();
    let cannot = || Failure::error(format!("cannot read the prices in {shown}"));
    let bytes = std::fs::read(path).map_err(|error| cannot().caused_by(&error))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| cannot().because("it is not UTF-8 text".to_owned()))?;
    PriceTable::read(&text, wanted).map_err(|error| {
        let model = match &error {
            PriceError::Community(CommunityError::Entry { model, .. }) => model.to_string(),
            PriceError::Community(CommunityError::Json(_)) | PriceError::Sheet(_) => "MODEL".to_owned(),
        };
        cannot().caused_by(&error).hint(format!(
            "`{program} price {} --price-in USD --price-out USD` sets a price by hand, in dollars per million tokens",
            shell_word(&model)
        ))
    })
}

fn unreadable(model: &str, program: &str) -> Failure {
    Failure::error(format!("the price on record for {model} cannot be read"))
        .of_record()
        .hint(format!("`{program} price {} --remove` takes it away", shell_word(model)))
}
