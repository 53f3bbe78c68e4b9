//! A project whose runs are carried out in this process and can be broken off between two commits.
//!
//! A run has a runtime of its own with a single thread, so that all of it is dead at one instant: its
//! sockets are closed and its tasks are gone when the runtime is. The provider has another one and
//! lives on, as a provider would.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use overnight::domain::{
    AnswerFormat, BatchId, Endpoint, Event, HowEnded, Identity, MessageTemplate, ModelName, NewRow,
    Oversized, PromptSpec, Role, SourceFacts, Structured, TokenLimitField, UnixMs,
};
use overnight::engine::{
    self, BatchPlan, BatchServer, Clock, Control, MostInBatches, Prices, Proxies, Purpose, RunPlan,
    Server, Task, TaskParts, Transport, World,
};
use overnight::machine::answer_check::AnswerCheck;
use overnight::machine::budget::Budget;
use overnight::machine::pace::PaceSettings;
use overnight::machine::prices::PriceTable;
use overnight::machine::render::Template;
use overnight::machine::request::InDoubtPolicy;
use overnight::machine::route::{Asked, HasBatches};
use overnight::provider::batch::BatchUrls;
use overnight::provider::{Encoder, WireAnswer, catalog, endpoint_url};
use overnight::simulate::{self, Ledger, Settings, Simulator};
use overnight::store::{Create, Fuse, LastCommit, PromptRecord, RunFacts, Store};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc::unbounded_channel, oneshot};

/// The longest that a run of a few rows may take before it is taken for one that hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A table, a prompt and a provider.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) rows: usize,
    /// Texts that differ; each row has one of them.
    pub(crate) texts: usize,
    /// Words in each row.
    pub(crate) words: usize,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) simulator: fn(&mut Settings),
    /// Orders that one commit holds at most.
    pub(crate) group: usize,
    /// Whether it is so big that the two ways of a cut take turns.
    pub(crate) takes_turns: bool,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            rows: 8,
            texts: usize::MAX,
            words: 2,
            max_tokens: None,
            simulator: |_| (),
            group: 1,
            takes_turns: false,
        }
    }
}

/// How a run is to go.
#[derive(Clone)]
pub(crate) struct How {
    pub(crate) asked: Asked,
    pub(crate) oversized: Oversized,
    pub(crate) most: MostInBatches,
    pub(crate) waits: bool,
    pub(crate) purpose: Purpose,
    /// After how many events it is told to stop, as by Ctrl-C.
    pub(crate) interrupted_at: Option<u64>,
}

impl How {
    /// By batches of so many requests.
    pub(crate) fn batches_of(requests: u64) -> Self {
        Self {
            asked: Asked::Batch,
            oversized: Oversized::Realtime,
            most: MostInBatches { requests: Some(requests), bytes: None, tokens: None },
            waits: true,
            purpose: Purpose::Answer,
            interrupted_at: None,
        }
    }

    /// To cancel these batches.
    pub(crate) fn cancelling(batches: Vec<BatchId>) -> Self {
        let purpose = Purpose::Cancel(batches);
        Self { asked: Asked::Realtime, purpose, ..Self::batches_of(1) }
    }
}

/// Where a run is broken off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) commits: u64,
    pub(crate) last: LastCommit,
}

/// How a run came to its end.
#[derive(Debug)]
pub(crate) enum Ran {
    ToItsEnd(HowEnded),
    Cut,
}

/// A project file that was never run, to be copied for each cut.
pub(crate) struct Fresh {
    dir: TempDir,
}

const NAME: &str = "overnight.db";

impl Fresh {
    pub(crate) fn of(scene: &Scene) -> Self {
        let dir = folder();
        let path = dir.path().join(NAME);
        let new = Create {
            path: &path,
            now: UnixMs(1),
            token: "abcdef123456",
            base_url: None,
            max_attempts: 5,
        };
        let mut store = Store::create(&new, |_| Ok(())).unwrap();
        let mut adding = store.start_add("rows.csv", Some("id"), UnixMs(2)).unwrap();
        for row in 0..scene.rows {
            let text = format!("row {}{}", row % scene.texts, " word".repeat(scene.words));
            let cells = serde_json::json!({"id": format!("k{row}"), "text": text}).to_string();
            let key = format!("k{row}");
            let identity = Identity::Key(&key);
            adding.row(NewRow { line: row as u64 + 2, cells_json: &cells, identity }).unwrap();
        }
        adding.finish(&facts()).unwrap();
        store.add_prompt("main", &prompt(scene), UnixMs(3)).unwrap();
        Self { dir }
    }
}

/// A folder in memory where there is one: thousands of commits are made here, and what a disk does with them is
/// not in question.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn facts() -> SourceFacts {
    SourceFacts {
        format: "csv".to_owned(),
        encoding: "UTF-8".to_owned(),
        sha256: [7; 32],
        bytes: 1,
        columns: ["id", "text"].map(str::to_owned).to_vec(),
    }
}

fn prompt(scene: &Scene) -> PromptSpec {
    let template = "Say: {{ text }}".to_owned();
    PromptSpec {
        source: template.clone(),
        messages: vec![MessageTemplate { role: Role::User, template }],
        model: ModelName::parse("simulated/small").unwrap(),
        endpoint: Endpoint::ChatCompletions,
        max_tokens: scene.max_tokens,
        max_tokens_limit: scene.max_tokens.map(|tokens| tokens * 64),
        token_limit_field: TokenLimitField::MaxTokens,
        answer: AnswerFormat::Text,
        structured: Structured::Words,
        parameters: serde_json::Map::new(),
    }
}

/// A project at a provider.
pub(crate) struct Project {
    dir: TempDir,
    group: usize,
    simulator: Simulator,
    // Dropped last: the simulator runs on it.
    _runtime: Runtime,
}

impl Project {
    pub(crate) fn new(scene: &Scene, fresh: &Fresh) -> Self {
        Self::with(scene, fresh, scene.simulator)
    }

    pub(crate) fn with(
        scene: &Scene,
        fresh: &Fresh,
        simulator: impl FnOnce(&mut Settings),
    ) -> Self {
        let dir = folder();
        std::fs::copy(fresh.dir.path().join(NAME), dir.path().join(NAME)).unwrap();
        let mut settings = Settings::new(Clock::now);
        simulator(&mut settings);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let simulator = runtime.block_on(simulate::start(settings)).unwrap();
        Self { dir, group: scene.group, simulator, _runtime: runtime }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.simulator.ledger()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path(), Clock::now()).unwrap()
    }

    /// Runs to the end, or to the cut if that comes first.
    pub(crate) fn run(&self, how: &How, cut: Option<Cut>) -> Ran {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (told, burnt) = oneshot::channel();
        let (release, held) = channel::<()>();
        let fuse = cut.map(|cut| Fuse {
            commits: cut.commits,
            last: cut.last,
            group: self.group,
            burnt: Box::new(move || {
                let _ = told.send(());
                // The writer keeps its connection open until everything else of the run is gone.
                let _ = held.recv();
            }),
        });
        let ran = runtime.block_on(async {
            tokio::select! {
                biased;
                Ok(()) = burnt => Ran::Cut,
                ran = tokio::time::timeout(PATIENCE, self.carry_out(how, fuse)) => ran.unwrap(),
            }
        });
        end(runtime, release);
        ran
    }

    async fn carry_out(&self, how: &How, fuse: Option<Fuse>) -> Ran {
        let mut store = self.store();
        let run = store
            .start_run(&RunFacts {
                started_at: Clock::now(),
                settings_json: "{}".to_owned(),
                process_id: 1,
                host: "host".to_owned(),
            })
            .unwrap();
        let base_url = self.simulator.base_url();
        let tasks: Vec<Task> = store
            .live_prompts()
            .unwrap()
            .into_iter()
            .map(|prompt| task(prompt, &base_url, &store))
            .collect();
        let plan = RunPlan {
            run,
            tasks,
            pace: PaceSettings { concurrency: Some(4), rpm: None, tpm: None },
            in_doubt: InDoubtPolicy::Resend,
            reuse: true,
            limit: None,
            sample: None,
            budget: Budget::default(),
            batches: BatchPlan {
                asked: how.asked,
                oversized: how.oversized,
                most: how.most,
                poll: Duration::from_millis(1),
                waits: how.waits,
                canary: true,
                by: None,
                servers: HashMap::from([(base_url.clone(), Arc::new(batch_server(&base_url)))]),
                purpose: how.purpose.clone(),
            },
            transport: Transport::new(Duration::from_secs(20), Proxies::None).unwrap(),
            seed: fastrand::u64(..),
            world: World::real(),
        };
        let path = self.path();
        let open: engine::Opens = Arc::new(move || Store::open_to_read(&path, Clock::now()));
        let (control, commands) = unbounded_channel();
        let (events, at) = (Cell::new(0), how.interrupted_at);
        let watch: Box<dyn Fn(Event) + Send> = Box::new(move |_| {
            events.set(events.get() + 1);
            if at == Some(events.get()) {
                control.send(Control::Interrupt).unwrap();
            }
        });
        let ran = engine::run_with(plan, store, open, (commands, watch), fuse).await;
        let (mut store, how, _) = ran.unwrap();
        store.end_run(run, Clock::now(), how.as_str(), None).unwrap();
        Ran::ToItsEnd(how)
    }
}

/// Ends all that is left of a run, and only then its writer.
fn end(runtime: Runtime, release: Sender<()>) {
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(release);
}

fn task(prompt: PromptRecord, base_url: &str, store: &Store) -> Task {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let server = Server {
        name: base_url.to_owned(),
        has_batches: HasBatches::Yes,
        url: endpoint_url(base_url, prompt.spec.endpoint).unwrap(),
        headers,
        key: None,
    };
    let table = PriceTable::bundled();
    let listed = table.listed(&prompt.spec.model);
    let parts = TaskParts {
        price: listed.copied().map(Prices::from).unwrap_or_default(),
        template: Template::compile(&prompt.spec).unwrap(),
        encoder: Encoder::new(&prompt.spec, WireAnswer::Free),
        in_words: None,
        check: AnswerCheck::compile(&prompt.spec.answer).unwrap(),
        policy: store.project().unwrap().policy(&prompt.spec, InDoubtPolicy::Resend),
    };
    Task::new(prompt, server, parts)
}

fn batch_server(base_url: &str) -> BatchServer {
    BatchServer {
        urls: BatchUrls::new(base_url).unwrap(),
        headers: HeaderMap::new(),
        key: None,
        profile: *catalog::require("simulated").unwrap().batches.unwrap(),
        is_embedded: false,
    }
}
