//! What a run works with: its prompts made ready, the servers of its batches, and the simulator where it is embedded.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::prices::PriceBook;
use crate::cli::server::{self, Place};
use crate::cli::simulate::{VARIABLE, embedded};
use crate::cli::tasks;
use crate::domain::ModelName;
use crate::engine::{BatchServer, Clock, Proxies, Task};
use crate::machine::request::InDoubtPolicy;
use crate::simulate::{self, Simulator};
use crate::store::{BatchRecord, PromptRecord, Store};

/// What a run works with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) tasks: Vec<Task>,
    /// By their names on record.
    pub(crate) servers: HashMap<String, Arc<BatchServer>>,
    pub(crate) simulator: Option<Simulator>,
}

impl Setup {
    /// Makes ready the live prompts, and those whose requests are in batches that are not done with.
    pub(crate) async fn make(
        store: &Store,
        (base_url, in_doubt, book): (Option<&str>, InDoubtPolicy, &PriceBook),
        context: &Context,
    ) -> Result<Self, Failure> {
        let project = store.project()?;
        let base_url = base_url.or(project.base_url.as_deref());
        let open = store.open_batches()?;
        let mut setup = Self::default();
        for prompt in prompts(store, &open)? {
            let place = tasks::place_of(&prompt, base_url, context)?;
            let embedded = setup.embedded(&place, context).await?;
            let policy = project.policy(&prompt.spec, in_doubt);
            let at = (&place, embedded.as_deref());
            let task = tasks::task(prompt, at, (policy, book), context)?;
            setup.know(&task.server.name, &task.prompt.spec.model, at, context)?;
            setup.tasks.push(task);
        }
        for batch in open {
            setup.know_batch(&batch, context).await?;
        }
        Ok(setup)
    }

    /// Returns which proxies the run's client uses.
    pub(crate) fn proxies(&self) -> Proxies {
        match self.simulator {
            Some(_) => Proxies::None,
            None => Proxies::AsTheSystemSays,
        }
    }

    /// Returns the base URL of the simulator in this process, started where the place is there.
    async fn embedded(
        &mut self,
        place: &Place,
        context: &Context,
    ) -> Result<Option<String>, Failure> {
        if *place != Place::Embedded {
            return Ok(None);
        }
        if self.simulator.is_none() {
            let settings = match context.settings.get(VARIABLE) {
                Some(options) => embedded(&options)?,
                None => simulate::Settings::new(Clock::now),
            };
            let started = simulate::start(settings).await;
            self.simulator = Some(started.map_err(|error| {
                Failure::error("cannot start the simulated provider").caused_by(&error)
            })?);
        }
        Ok(self.simulator.as_ref().map(Simulator::base_url))
    }

    fn know(
        &mut self,
        name: &str,
        model: &ModelName,
        at: (&Place, Option<&str>),
        context: &Context,
    ) -> Result<(), Failure> {
        if !self.servers.contains_key(name)
            && let Some(server) = server::batch_server(server::provider(model)?, at, context)?
        {
            self.servers.insert(name.to_owned(), Arc::new(server));
        }
        Ok(())
    }

    /// A batch is looked for where it was sent, wherever its model's requests go by now.
    async fn know_batch(&mut self, batch: &BatchRecord, context: &Context) -> Result<(), Failure> {
        let Some(model) = ModelName::parse(&batch.new.model) else { return Ok(()) };
        let place = server::named(server::provider(&model)?, &batch.new.server);
        let embedded = self.embedded(&place, context).await?;
        self.know(&batch.new.server, &model, (&place, embedded.as_deref()), context)
    }
}

fn prompts(store: &Store, open: &[BatchRecord]) -> Result<Vec<PromptRecord>, Failure> {
    let mut in_batches = Vec::new();
    for batch in open {
        in_batches.extend(store.prompts_of_batch(batch.id)?);
    }
    let is_wanted = |prompt: &PromptRecord| prompt.is_live || in_batches.contains(&prompt.id);
    Ok(store.prompts()?.into_iter().filter(is_wanted).collect())
}
