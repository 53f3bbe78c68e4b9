//! The simulated provider: OpenAI's wire format from this binary, with faults to order.
//!
//! It stands behind `simulated/…` models and `overnight simulate`, and it is what the tests hold
//! the project file against. So three things matter more than realism of the answers:
//!
//! - **It is strict.** A body that OpenAI would refuse is refused here, with the same words.
//! - **It is deterministic.** What is answered follows from the seed and the body's bytes; which
//!   fault strikes follows from the seed, the body and how often that body was seen.
//! - **It keeps a ledger** of what it charged, by the fingerprint of the body (see [`Ledger`]).
//!
//! What is charged: a call for which a completion was made, whatever became of the reply. So
//! `slow`, `cut`, `badjson`, `empty`, `wrongtype`, `wronglabel`, `refusal`, `content_filter`,
//! `length` and `lost` are charged; everything that ends in a 4xx or 5xx, and `reset`, `close` and
//! `hang`, is not. The charge is booked before the latency is waited out, as a provider goes on
//! with (and bills) a call whose client has left.
//!
//! A line of a batch is charged when it is done, whatever becomes of its result, and also where the
//! batch expires, is cancelled or breaks off later; a line that is refused (`line_429`, `line_500`,
//! a bad body) or never got to is not. Uploads, creates, looks and downloads cost nothing. The
//! ledger keeps the sums of batches beside those of all.
//!
//! ```text
//!                                  ┌▶ call ──▶ limits ──┐                  ┌▶ reply
//! socket ─▶ server ─▶ service ─────┤           429      ├▶ work ──▶ answer ┤
//!  (wire, resets)     (routes)     ├▶ batches ─ line ───┘   │ check, charge └▶ files (results)
//!                                  └▶ files (uploads)       └─────▶ ledger
//! ```
//!
//! What goes wrong is drawn by `draws`, at the moment that each fault belongs to.
//!
//! It never opens a connection, never reads the clock (the time is handed in), never repeats in
//! an answer what it was asked, and listens on 127.0.0.1 alone.

mod answer;
mod batches;
mod body;
mod call;
mod chat;
mod check;
mod completion;
mod draws;
mod fault;
mod faults;
mod files;
mod fit;
mod ledger;
mod likeness;
mod limits;
mod models;
mod page;
mod reply;
mod responses;
mod server;
mod service;
mod tokens;
mod wired;
mod work;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::domain::UnixMs;

pub use fault::{Fault, Moment};
pub use faults::{FaultError, FaultRule, Faults, When};
pub use ledger::{Account, Ledger, Totals};
pub use likeness::{AnswerLength, AskedInWords, Keeps, Likeness, ModelLikeness, Remembers, Takes};
pub use wired::{Exchange, Wired, wired, wired_by};

/// How the simulated provider behaves; [`Settings::new`] gives one that always answers at once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What answers, ids, jitter and faults are drawn from.
    pub seed: u64,
    /// The port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// How long a reply takes.
    pub latency: Duration,
    /// How far the latency varies, as a share of itself: 0.25 is a quarter more or less.
    pub latency_jitter: f64,
    /// Requests per minute; `None` is no limit, and no headers on it.
    pub rpm: Option<u32>,
    /// Tokens per minute; `None` is no limit, and no headers on it.
    pub tpm: Option<u32>,
    /// The most tokens that a prompt and its completion may have together.
    pub context_tokens: u32,
    /// The models that are served; empty serves any name.
    pub models: Vec<String>,
    /// The key that callers must send; `None` takes any key, or none.
    pub api_key: Option<String>,
    /// What goes wrong, and when.
    pub faults: Faults,
    /// How long the fault `hang` keeps a connection before it closes it.
    pub hang: Duration,
    /// How long the fault `slow` waits between the parts of a reply.
    pub drip: Duration,
    /// A file to which one line of JSON is appended for each charge, before it is answered.
    pub ledger: Option<PathBuf>,
    /// How long a batch takes from its creation to its end; with none, each look moves it on by one status.
    pub batch_delay: Duration,
    /// How long a batch has before it expires; more than nothing.
    pub batch_window: Duration,
    /// The most requests that a batch may have.
    pub batch_requests: u32,
    /// The most bytes that a file for a batch may have.
    pub batch_bytes: u64,
    /// The most prompt tokens that the batches of one model may have in all while they are under
    /// way; `None` is no limit.
    pub enqueued_tokens: Option<u64>,
    /// What it takes on of a real provider.
    pub likeness: Arc<Likeness>,
    /// The time: for what is dated, the ledger's lines, and the way that batches go.
    pub now: fn() -> UnixMs,
}

impl Settings {
    /// Makes settings under which every correct request is answered at once.
    pub fn new(now: fn() -> UnixMs) -> Self {
        Self {
            seed: 0,
            port: 0,
            latency: Duration::ZERO,
            latency_jitter: 0.0,
            rpm: None,
            tpm: None,
            context_tokens: 128_000,
            models: Vec::new(),
            api_key: None,
            faults: Faults::default(),
            hang: Duration::from_mins(10),
            drip: Duration::from_millis(50),
            ledger: None,
            batch_delay: Duration::ZERO,
            batch_window: Duration::from_hours(24),
            batch_requests: 50_000,
            batch_bytes: 200_000_000,
            enqueued_tokens: None,
            likeness: Arc::default(),
            now,
        }
    }
}

/// A simulated provider that is listening. Dropping it stops it, without waiting for replies.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    state: Arc<service::State>,
    stop: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

/// Starts a simulated provider on 127.0.0.1; it runs on the caller's tokio runtime.
///
/// Fails where the port is taken or the ledger's file cannot be opened.
pub async fn start(settings: Settings) -> io::Result<Simulator> {
    let listener = server::listen(settings.port).await?;
    let address = listener.local_addr()?;
    let state = Arc::new(service::State::new(settings, service::Time::OfSettings)?);
    let (stop, stopped) = watch::channel(false);
    let listening = tokio::spawn(server::run(listener, Arc::clone(&state), stopped));
    Ok(Simulator { address, state, stop, listening })
}

impl Simulator {
    /// Returns what stands before `/chat/completions`: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns the ledger as it stands.
    pub fn ledger(&self) -> Ledger {
        self.state.books()
    }

    /// Stops listening, lets replies under way go out for a moment, closes what is left, and
    /// returns the ledger to which nothing more can be added.
    pub async fn stop(mut self) -> Ledger {
        self.stop.send_replace(true);
        // Only an abort could make this fail, and then there is nothing left to stop.
        let _ended = (&mut self.listening).await;
        self.ledger()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
