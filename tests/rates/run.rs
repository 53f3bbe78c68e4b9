//! A project, a provider that meters, and the wire between them.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full};
use overnight::domain::{HowEnded, Identity, ModelName, NewRow, SourceFacts, Structured, UnixMs};
use overnight::engine::{
    self, BatchPlan, Carrying, Clock, MostInBatches, Prices, Proxies, Purpose, RunPlan, SentBody,
    Server, Task, TaskParts, Transport, Wire, World,
};
use overnight::input::prompt_file::{self, BaseUrl, PromptDefaults};
use overnight::machine::answer_check::AnswerCheck;
use overnight::machine::budget::Budget;
use overnight::machine::pace::{PaceSettings, Rates};
use overnight::machine::render::Template;
use overnight::machine::request::InDoubtPolicy;
use overnight::machine::route::{Asked, HasBatches};
use overnight::provider::{Encoder, WireAnswer, endpoint_url};
use overnight::simulate::{Settings, Wired, wired};
use overnight::store::{Create, PromptRecord, RunFacts, Store};
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

const FIRST_DAY: UnixMs = UnixMs(1_800_000_000_000);
const BASE_URL: &str = "http://provider.test/v1";
const MODEL: &str = "simulated/small";

/// What is sent to which provider.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) rows: u32,
    pub(crate) prompts: u32,
    pub(crate) runs: u32,
    /// Words in each row, all alike.
    pub(crate) words: u32,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) rpm: Option<u32>,
    pub(crate) tpm: Option<u32>,
    /// How full the provider's buckets are at the start: 0 or 1.
    pub(crate) bucket: f64,
    /// What somebody else sends to the same provider.
    pub(crate) others_rpm: u32,
    pub(crate) has_headers: bool,
    pub(crate) latency: Duration,
    pub(crate) concurrency: Option<u32>,
    pub(crate) own_rpm: Option<u32>,
}

impl Scene {
    pub(crate) fn at(latency_s: f64) -> Self {
        Self {
            rows: 0,
            prompts: 1,
            runs: 1,
            words: 1,
            max_tokens: None,
            rpm: None,
            tpm: None,
            bucket: 1.0,
            others_rpm: 0,
            has_headers: true,
            latency: Duration::from_secs_f64(latency_s),
            concurrency: None,
            own_rpm: None,
        }
    }

    fn text(&self, row: u32) -> String {
        format!("row {row:06}{}", " word".repeat(self.words as usize))
    }

    /// Returns what the provider takes of its tokens for a request.
    pub(crate) fn charged_tokens(&self) -> u32 {
        let characters = "Say: ".len() + self.text(0).len();
        (characters as u32).div_ceil(4).max(self.max_tokens.unwrap_or(0))
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// From the start to the last call; how long that one took is not the pace's.
    pub(crate) took: Duration,
    /// By the provider's own ledger.
    pub(crate) charged: u64,
    pub(crate) refused: u64,
    pub(crate) refused_in_last_run: u64,
    /// Calls of somebody else that were charged.
    pub(crate) others: u64,
    pub(crate) remembered: Option<Rates>,
    /// Whether a week later nothing is remembered.
    pub(crate) forgotten: bool,
    /// When each call came, and whether it was let in.
    calls: Vec<(Duration, bool)>,
}

impl Came {
    pub(crate) fn refused_after(&self, start: Duration) -> u64 {
        self.calls.iter().filter(|(at, is_in)| *at >= start && !is_in).count() as u64
    }

    pub(crate) fn most_in_a_minute(&self) -> usize {
        let minute = Duration::from_mins(1);
        let within = |from: Duration| {
            self.calls.iter().filter(|(at, _)| (from..from + minute).contains(at)).count()
        };
        self.calls.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }
}

thread_local! {
    static TIME: Cell<Option<Clock>> = const { Cell::new(None) };
}

/// Notes when calls come and what becomes of them; takes the headers off where the scene has none.
struct Line {
    provider: Wired,
    has_headers: bool,
    clock: Clock,
    calls: Mutex<Vec<(Duration, bool)>>,
}

/// The line as a run holds it.
struct Held(Arc<Line>);

impl Wire for Held {
    fn carry(&self, request: Request<SentBody>) -> Carrying {
        let line = Arc::clone(&self.0);
        Box::pin(async move {
            let at = line.clock.elapsed();
            let mut reply = line.provider.carry(request).await?;
            line.calls.lock().unwrap().push((at, reply.status() != 429));
            if !line.has_headers {
                let headers = reply.headers_mut();
                let names: Vec<_> = headers.keys().cloned().collect();
                for name in names.iter().filter(|name| name.as_str().starts_with("x-ratelimit")) {
                    headers.remove(name);
                }
            }
            Ok(reply)
        })
    }
}

/// Plays a scene.
pub(crate) fn play(scene: &Scene) -> Came {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(LocalSet::new().run_until(go(scene)))
}

async fn go(scene: &Scene) -> Came {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = dir.path().join("overnight.db");
    make(&path, scene);
    let clock = Clock::simulated(FIRST_DAY);
    TIME.set(Some(clock));
    let settings = Settings::new(|| TIME.get().unwrap().time_of_day());
    let (rpm, tpm, latency) = (scene.rpm, scene.tpm, scene.latency);
    let provider = wired(Settings { rpm, tpm, latency, latency_jitter: 0.3, ..settings }).unwrap();
    let before = if scene.bucket < 1.0 { drain(&provider).await } else { 0 };
    let others = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    if scene.others_rpm > 0 {
        let (provider, others) = (provider.clone(), Arc::clone(&others));
        let (is_over, pause) = (Arc::clone(&is_over), Duration::from_mins(1) / scene.others_rpm);
        tokio::task::spawn_local(async move {
            while !is_over.load(Ordering::Relaxed) {
                others.fetch_add(u64::from(is_let_in(&provider).await), Ordering::Relaxed);
                tokio::time::sleep(pause).await;
            }
        });
    }
    let has_headers = scene.has_headers;
    let calls = Mutex::default();
    let line = Arc::new(Line { provider: provider.clone(), has_headers, clock, calls });
    let refused = |provider: &Wired| {
        provider.ledger().totals.errors.get("rate_limit_exceeded").copied().unwrap_or(0)
    };
    let refused_before = refused(&provider);
    let started = clock.elapsed();
    let (mut came, mut refused_by_now) = (Came::default(), 0);
    for number in 0..scene.runs {
        refused_by_now = refused(&provider);
        let share = scene.rows * (number + 1) / scene.runs - scene.rows * number / scene.runs;
        let plan = Plan { path: &path, line: &line, clock, limit: share };
        plan.carry_out(scene, u64::from(number)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    came.others = others.load(Ordering::Relaxed);
    let charged = || provider.ledger().totals.charged_requests - before;
    // One of the other's may be under way.
    came.charged = (charged() - came.others).min(u64::from(scene.rows));
    assert!(
        charged() - came.others <= came.charged + u64::from(scene.others_rpm > 0),
        "bought twice"
    );
    came.refused = line.calls.lock().unwrap().iter().filter(|(_, is_in)| !is_in).count() as u64;
    came.refused_in_last_run = refused(&provider) - refused_by_now;
    assert!(came.refused <= refused(&provider) - refused_before, "the ledger has them all");
    assert_eq!(came.charged, u64::from(scene.rows), "each row was bought once");
    came.calls = std::mem::take(&mut line.calls.lock().unwrap());
    came.took = came.calls.iter().map(|(at, _)| *at).max().unwrap().saturating_sub(started);
    let now = clock.time_of_day();
    let mut store = Store::open(&path, now).unwrap();
    let rates = store.rate_limit(BASE_URL, MODEL).unwrap();
    came.remembered = (rates != Rates::default()).then_some(rates);
    store.forget_rate_limits(UnixMs(now.0 + 1)).unwrap();
    came.forgotten = store.rate_limit(BASE_URL, MODEL).unwrap() == Rates::default();
    came
}

/// Takes all that there is of a provider's bucket of requests. Returns how many calls that were.
async fn drain(provider: &Wired) -> u64 {
    let mut calls = Vec::new();
    for _ in 0..5_000 {
        let provider = provider.clone();
        calls.push(tokio::task::spawn_local(async move { is_let_in(&provider).await }));
    }
    let mut let_in = 0;
    for call in calls {
        let_in += u64::from(call.await.unwrap());
    }
    assert!((1..5_000).contains(&let_in), "the bucket is empty after {let_in}");
    let_in
}

async fn is_let_in(provider: &Wired) -> bool {
    let body = r#"{"model":"small","messages":[{"role":"user","content":"somebody else"}]}"#;
    let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {});
    let request = Request::post(format!("{BASE_URL}/chat/completions"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.boxed_unsync())
        .unwrap();
    provider.carry(request).await.is_ok_and(|reply| reply.status() == 200)
}

/// One run.
struct Plan<'a> {
    path: &'a Path,
    line: &'a Arc<Line>,
    clock: Clock,
    limit: u32,
}

impl Plan<'_> {
    async fn carry_out(&self, scene: &Scene, seed: u64) {
        let mut store = Store::open(self.path, self.clock.time_of_day()).unwrap();
        let started_at = self.clock.time_of_day();
        let settings_json = "{}".to_owned();
        let facts = RunFacts { started_at, settings_json, process_id: 1, host: "host".to_owned() };
        let run = store.start_run(&facts).unwrap();
        let tasks = store.live_prompts().unwrap().into_iter().map(|prompt| task(prompt, &store));
        let tasks = tasks.collect();
        let plan = RunPlan {
            run,
            tasks,
            pace: PaceSettings { concurrency: scene.concurrency, rpm: scene.own_rpm, tpm: None },
            in_doubt: InDoubtPolicy::Resend,
            reuse: true,
            limit: Some(u64::from(self.limit)),
            sample: None,
            budget: Budget::default(),
            batches: BatchPlan {
                asked: Asked::Realtime,
                oversized: overnight::domain::Oversized::Realtime,
                most: MostInBatches::default(),
                poll: Duration::from_mins(1),
                waits: true,
                canary: false,
                by: None,
                servers: HashMap::new(),
                purpose: Purpose::Answer,
            },
            transport: Transport::new(Duration::from_mins(5), Proxies::None)
                .unwrap()
                .by_wire(Arc::new(Held(Arc::clone(self.line)))),
            seed,
            world: World::simulated(self.clock, seed),
        };
        let (path, clock) = (self.path.to_owned(), self.clock);
        let open: engine::Opens = Arc::new(move || Store::open_to_read(&path, clock.time_of_day()));
        let (_control, commands) = unbounded_channel();
        let ran = engine::run(plan, store, open, (commands, Box::new(|_| {})));
        let ran = tokio::time::timeout(Duration::from_hours(2), ran).await;
        let (mut store, how, _) = ran.expect("the run comes to its end").unwrap();
        store.end_run(run, self.clock.time_of_day(), how.as_str(), None).unwrap();
        assert_eq!(how, HowEnded::Done);
    }
}

/// Makes the project's file.
fn make(path: &Path, scene: &Scene) {
    let new =
        Create { path, now: UnixMs(1), token: "abcdef123456", base_url: None, max_attempts: 5 };
    let mut store = Store::create(&new, |_| Ok(())).unwrap();
    let mut adding = store.start_add("rows.csv", Some("id"), UnixMs(2)).unwrap();
    for row in 0..scene.rows / scene.prompts {
        let key = format!("k{row}");
        let cells = serde_json::json!({"id": key, "text": scene.text(row)}).to_string();
        let identity = Identity::Key(&key);
        adding.row(NewRow { line: u64::from(row) + 2, cells_json: &cells, identity }).unwrap();
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
    for (name, verb) in [("one", "Say"), ("two", "Ask")].into_iter().take(scene.prompts as usize) {
        let limit =
            scene.max_tokens.map_or_else(String::new, |most| format!("max_tokens: {most}\n"));
        let text = format!("---\nmodel: {MODEL}\n{limit}---\n{verb}: {{{{ text }}}}\n");
        let defaults = PromptDefaults {
            model: None,
            max_tokens: None,
            base_url: BaseUrl::Own,
            structured: Structured::Schema,
        };
        let parsed = prompt_file::parse(&text, &defaults, &mut |_| Err("none".to_owned()));
        store.add_prompt(name, &parsed.unwrap().spec, UnixMs(3)).unwrap();
    }
}

fn task(prompt: PromptRecord, store: &Store) -> Task {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let server = Server {
        name: BASE_URL.to_owned(),
        has_batches: HasBatches::No,
        url: endpoint_url(BASE_URL, prompt.spec.endpoint).unwrap(),
        headers,
        key: None,
    };
    assert_eq!(prompt.spec.model, ModelName::parse(MODEL).unwrap());
    let policy = store.project().unwrap().policy(&prompt.spec, InDoubtPolicy::Resend);
    let parts = TaskParts {
        price: Prices::default(),
        template: Template::compile(&prompt.spec).unwrap(),
        encoder: Encoder::new(&prompt.spec, WireAnswer::Free),
        in_words: None,
        check: AnswerCheck::compile(&prompt.spec.answer).unwrap(),
        policy,
    };
    Task::new(prompt, server, parts)
}
