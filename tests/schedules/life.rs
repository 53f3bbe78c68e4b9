//! One schedule, from an empty record to the last row.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderMap, HeaderValue, header};
use overnight::domain::{
    Event, HowEnded, Identity, ModelName, NanoUsd, NewRow, Problem, PromptSpec, SourceFacts,
    Structured, UnixMs,
};
use overnight::engine::{
    self, BatchPlan, BatchServer, Clock, Control, MostInBatches, Prices, Proxies, Purpose, RunPlan,
    Server, Task, TaskParts, Transport, World,
};
use overnight::input::prompt_file::{self, BaseUrl, PromptDefaults};
use overnight::machine::answer_check::{AnswerCheck, strict_ready, wire_schema, words};
use overnight::machine::budget::Budget;
use overnight::machine::pace::PaceSettings;
use overnight::machine::plan::Liveness;
use overnight::machine::prices::PriceTable;
use overnight::machine::render::Template;
use overnight::machine::request::{InDoubtPolicy, Policy};
use overnight::machine::route::{Asked, HasBatches};
use overnight::provider::batch::BatchUrls;
use overnight::provider::{Encoder, WireAnswer, catalog, endpoint_url};
use overnight::simulate::{Ledger, Settings, Wired, wired};
use overnight::store::{Create, PromptRecord, RunFacts, Store};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

use crate::books;
use crate::chaos::{Chaos, Held};
use crate::draw::{Scene, Way};

/// When each schedule begins.
const FIRST_DAY: UnixMs = UnixMs(1_800_000_000_000);
/// The longest that a run may take by its own time before it is taken for one that hangs: a narrow queue and batches of
/// twenty hours take their months.
const PATIENCE: Duration = Duration::from_hours(24 * 365);
/// How often a schedule's run is gone on with before it has to have come to its end.
const RUNS: usize = 40;
const BASE_URL: &str = "http://provider.test/v1";

/// What happened in a schedule.
#[derive(Default)]
pub(crate) struct Seen {
    counts: HashMap<&'static str, u64>,
}

impl Seen {
    /// What has to happen in a test that means anything.
    pub(crate) const NAMES: [&'static str; 14] = [
        "runs",
        "crashes",
        "interruptions",
        "cancellations",
        "batches",
        "calls",
        "answered rows",
        "failed rows",
        "in doubt",
        "shared",
        "charged again in doubt",
        "strays",
        "out of money",
        "rich enough",
    ];

    fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    pub(crate) fn counts(self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.into_iter()
    }
}

thread_local! {
    /// The time at the provider of this thread's schedule.
    static TIME: Cell<Option<Clock>> = const { Cell::new(None) };
    /// A client is costly to make, and of use to all schedules of a thread.
    static CLIENT: RefCell<Option<Transport>> = const { RefCell::new(None) };
}

/// What has happened so far, with its time.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    clock: Clock,
    /// Whether it is told at once, for a schedule that comes to no end.
    is_loud: bool,
}

impl Log {
    #[expect(clippy::print_stdout, reason = "whoever names a seed wants to see")]
    pub(crate) fn note(&self, words: &str) {
        let line = format!("{:>16.3?} {words}", self.clock.elapsed());
        if self.is_loud {
            println!("{line}");
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// A project at a provider.
pub(crate) struct Project {
    dir: TempDir,
    provider: Wired,
    wire: Arc<Chaos>,
    log: Log,
    clock: Clock,
    max_cost: Option<i64>,
}

/// How a run came to its end.
#[derive(Debug)]
enum Ran {
    ToItsEnd(HowEnded),
    Died,
}

/// Whether what happens is told at once or only kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Loud,
    Silent,
}

/// Lives through a schedule. What happens in it is written into `trace`.
pub(crate) fn live(seed: u64, trace: &Arc<Mutex<Vec<String>>>, voice: Voice) -> Seen {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = Clock::simulated(FIRST_DAY);
        go(seed, Log { lines: Arc::clone(trace), clock, is_loud: voice == Voice::Loud }).await
    })
}

async fn go(seed: u64, log: Log) -> Seen {
    let mut rng = Rng::with_seed(seed);
    let scene = Scene::draw(&mut rng, seed);
    log.note(&format!("{scene:?}"));
    let project = Project::new(&scene, &mut rng, log.clone());
    let mut happened = Seen::default();
    let mut evidence = books::Evidence::new();
    let troubled = rng.usize(1..6);
    for number in 0..RUNS {
        let is_calm = number >= troubled;
        let asked = if number % 2 == 0 { Asked::Batch } else { Asked::Realtime };
        let way = if is_calm {
            Way::to_the_end(asked, scene.batch_delay)
        } else {
            Way::draw(&mut rng, scene.batch_delay)
        };
        project.wire.is_calm.store(is_calm, Ordering::Relaxed);
        log.note(&format!("run {number}: {way:?}"));
        let ran = project.run(&way, rng.u64(..)).await;
        log.note(&format!("run {number}: {ran:?}"));
        happened.add("runs", 1);
        match &ran {
            Ran::Died => happened.add("crashes", 1),
            Ran::ToItsEnd(_) if way.cancels => happened.add("cancellations", 1),
            Ran::ToItsEnd(HowEnded::Stopped(Problem::Budget { .. })) => {
                happened.add("out of money", 1);
            }
            Ran::ToItsEnd(HowEnded::Stopped(_)) => happened.add("interruptions", 1),
            Ran::ToItsEnd(_) => {}
        }
        books::hold(&project, &mut evidence);
        if let Some(ceiling) = scene.max_cost {
            books::ceiling_holds(&project, ceiling);
        }
        let is_broke = matches!(ran, Ran::ToItsEnd(HowEnded::Stopped(Problem::Budget { .. })));
        if is_broke && is_calm {
            return happened;
        }
        if books::nothing_is_left(&project) {
            books::hold_in_the_end(&project, scene.max_attempts);
            happened.add("rich enough", u64::from(scene.max_cost.is_some()));
            books::count(&project, |what, count| happened.add(what, count));
            return happened;
        }
    }
    panic!("{RUNS} runs, and something is still due");
}

/// A folder in memory where there is one: what a disk does is not in question here.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Project {
    fn new(scene: &Scene, rng: &mut Rng, log: Log) -> Self {
        let dir = folder();
        make(&dir.path().join("overnight.db"), scene);
        let clock = log.clock;
        TIME.set(Some(clock));
        let provider = wired(Settings {
            seed: rng.u64(..),
            latency: scene.latency,
            latency_jitter: 0.9,
            rpm: scene.rpm,
            faults: scene.faults.parse().unwrap(),
            batch_delay: scene.batch_delay,
            batch_window: scene.batch_window,
            enqueued_tokens: scene.enqueued_tokens,
            ..Settings::new(|| TIME.get().unwrap().time_of_day())
        })
        .unwrap();
        let wire = Arc::new(Chaos {
            provider: provider.clone(),
            loss: scene.loss,
            rng: Mutex::new(rng.fork()),
            is_calm: Arc::new(AtomicBool::new(false)),
            log: log.clone(),
        });
        Self { dir, provider, wire, log, clock, max_cost: scene.max_cost }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("overnight.db")
    }

    pub(crate) fn now(&self) -> UnixMs {
        self.clock.time_of_day()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.provider.ledger()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path(), self.clock.time_of_day()).unwrap()
    }

    /// Runs to the end, or until the process dies: all its tasks at once, and with them what was not committed.
    async fn run(&self, way: &Way, seed: u64) -> Ran {
        let tasks = LocalSet::new();
        let ran = tasks.run_until(self.carry_out(way, seed));
        let dies_at = way.dies_at.unwrap_or(PATIENCE);
        if let Ok(ran) = tokio::time::timeout(dies_at, ran).await {
            return ran;
        }
        assert!(way.dies_at.is_some(), "the run hangs");
        Ran::Died
    }

    /// What may be spent, what is on record counted in.
    fn budget(&self, store: &Store) -> Budget {
        let counted = store.counted().unwrap();
        assert!(counted.unpriced.is_empty(), "every attempt has its price");
        Budget::new(self.max_cost.map(NanoUsd), counted.known, counted.open)
    }

    async fn carry_out(&self, way: &Way, seed: u64) -> Ran {
        let mut store = self.store();
        let started_at = self.clock.time_of_day();
        let settings_json = "{}".to_owned();
        let facts = RunFacts { started_at, settings_json, process_id: 1, host: "host".to_owned() };
        let run = store.start_run(&facts).unwrap();
        let tasks = store.live_prompts().unwrap().into_iter().map(|prompt| task(prompt, &store));
        let tasks = tasks.collect();
        let open = store.open_batches().unwrap();
        let purpose = match way.cancels {
            true => Purpose::Cancel(open.iter().map(|batch| batch.id).collect()),
            false => Purpose::Answer,
        };
        let plan = RunPlan {
            run,
            tasks,
            pace: PaceSettings { concurrency: way.concurrency, rpm: None, tpm: None },
            in_doubt: InDoubtPolicy::Resend,
            reuse: true,
            limit: way.limit,
            sample: None,
            budget: self.budget(&store),
            batches: BatchPlan {
                asked: way.asked,
                oversized: way.oversized,
                most: MostInBatches {
                    requests: Some(way.batch_requests),
                    bytes: None,
                    tokens: way.batch_tokens,
                },
                poll: way.poll,
                waits: way.waits,
                canary: true,
                by: way.by.map(|by| UnixMs(started_at.0 + by.as_millis() as i64)),
                servers: HashMap::from([(BASE_URL.to_owned(), Arc::new(batch_server()))]),
                purpose,
            },
            transport: transport().by_wire(Arc::new(Held(Arc::clone(&self.wire)))),
            seed,
            world: World::simulated(self.clock, seed),
        };
        let (path, clock) = (self.path(), self.clock);
        let open: engine::Opens = Arc::new(move || Store::open_to_read(&path, clock.time_of_day()));
        let (control, commands) = unbounded_channel();
        let (log, events, at) = (self.log.clone(), Cell::new(0), way.interrupted_at);
        let watch: Box<dyn Fn(Event) + Send> = Box::new(move |event| {
            log.note(&format!("{event:?}"));
            events.set(events.get() + 1);
            if at == Some(events.get()) {
                // The run may be over already.
                let _ = control.send(Control::Interrupt);
            }
        });
        let (mut store, how, _) = engine::run(plan, store, open, (commands, watch)).await.unwrap();
        store.end_run(run, self.clock.time_of_day(), how.as_str(), None).unwrap();
        Ran::ToItsEnd(how)
    }
}

fn transport() -> Transport {
    CLIENT.with_borrow_mut(|client| {
        let make = || Transport::new(Duration::from_mins(1), Proxies::None).unwrap();
        client.get_or_insert_with(make).clone()
    })
}

/// Makes the project's file.
fn make(path: &Path, scene: &Scene) {
    let new = Create {
        path,
        now: UnixMs(1),
        token: "abcdef123456",
        base_url: None,
        max_attempts: scene.max_attempts,
    };
    let mut store = Store::create(&new, |_| Ok(())).unwrap();
    let mut adding = store.start_add("rows.csv", Some("id"), UnixMs(2)).unwrap();
    for row in 0..scene.rows {
        let text = format!("줄 {}{}", row % scene.texts, " word".repeat(scene.words));
        let key = format!("k{row}");
        let cells = serde_json::json!({"id": key, "text": text}).to_string();
        let identity = Identity::Key(&key);
        adding.row(NewRow { line: row as u64 + 2, cells_json: &cells, identity }).unwrap();
    }
    adding
        .finish(&SourceFacts {
            format: "csv".to_owned(),
            encoding: "UTF-8".to_owned(),
            sha256: [7; 32],
            bytes: 1 << 20,
            columns: ["id", "text"].map(str::to_owned).to_vec(),
        })
        .unwrap();
    for number in 0..scene.prompts {
        let (name, spec) = prompt(scene, number);
        store.add_prompt(name, &spec, UnixMs(3)).unwrap();
    }
}

/// Reads a prompt from its text, as a person would have written it.
fn prompt(scene: &Scene, number: usize) -> (&'static str, PromptSpec) {
    let model = if number > 0 && scene.two_models { "large" } else { "small" };
    let limits = scene.max_tokens.map_or_else(String::new, |tokens| {
        format!("max_tokens: {tokens}\nmax_tokens_limit: {}\n", tokens * 16)
    });
    let (name, choices, body) = match number {
        0 => ("main", "", "Say: {{ text }}"),
        _ => ("label", "choices: [good, bad, 좋음]\n", "Label: {{ text }}"),
    };
    let text = format!("---\nmodel: simulated/{model}\n{limits}{choices}---\n{body}\n");
    let defaults = PromptDefaults {
        model: None,
        max_tokens: None,
        base_url: BaseUrl::Own,
        structured: Structured::Schema,
    };
    let parsed = prompt_file::parse(&text, &defaults, &mut |_| Err("there is none".to_owned()));
    (name, parsed.unwrap().spec)
}

fn task(prompt: PromptRecord, store: &Store) -> Task {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let server = Server {
        name: BASE_URL.to_owned(),
        has_batches: HasBatches::Yes,
        url: endpoint_url(BASE_URL, prompt.spec.endpoint).unwrap(),
        headers,
        key: None,
    };
    let policy = store.project().unwrap().policy(&prompt.spec, InDoubtPolicy::Resend);
    let parts = parts(&prompt, policy);
    Task::new(prompt, server, parts)
}

/// What tokens cost, whatever the model, and the longest that an answer of the simulated provider is.
pub(crate) fn prices() -> Prices {
    let table = PriceTable::bundled();
    let small = ModelName::parse("simulated/small").unwrap();
    let listed = table.listed(&small).copied().map(Prices::from).unwrap();
    Prices { max_output_tokens: Some(300), ..listed }
}

/// Makes a prompt ready, as the command line does.
pub(crate) fn parts(prompt: &PromptRecord, policy: Policy) -> TaskParts {
    let schema = wire_schema(&prompt.spec.answer);
    let wire = schema.map(|schema| WireAnswer::Schema { strict: strict_ready(&schema), schema });
    let asked_in_words = words(&prompt.spec.answer).map(WireAnswer::Words);
    TaskParts {
        price: prices(),
        template: Template::compile(&prompt.spec).unwrap(),
        encoder: Encoder::new(&prompt.spec, wire.unwrap_or(WireAnswer::Free)),
        in_words: asked_in_words.map(|answer| Encoder::new(&prompt.spec, answer)),
        check: AnswerCheck::compile(&prompt.spec.answer).unwrap(),
        policy,
    }
}

fn batch_server() -> BatchServer {
    BatchServer {
        urls: BatchUrls::new(BASE_URL).unwrap(),
        headers: HeaderMap::new(),
        key: None,
        profile: *catalog::require("simulated").unwrap().batches.unwrap(),
        is_embedded: false,
    }
}

/// Counts what is due by the product's own rule.
pub(crate) fn due(store: &Store) -> u64 {
    let prompts = store.live_prompts().unwrap();
    let left = store.left(&prompts, InDoubtPolicy::Resend, Liveness::Idle).unwrap();
    left.iter().map(overnight::machine::plan::Left::due).sum()
}
