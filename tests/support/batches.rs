//! A provider of files and batches whose every word is scripted, on a port of its own.
//!
//! It is written from OpenAI's specification and shares no code with the program or its simulator. It is
//! strict: each breach of the specification is put down, and a provider that is dropped with one on its
//! books fails the test. Batches move by being looked at, so that no test depends on a clock.

mod books;
mod check;
mod http;
pub(crate) mod runs;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use self::books::Batch;
use self::books::Books;
use self::http::{Call, Reply};
use super::Act;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A realtime request.
    Chat,
    Upload,
    /// The list of files.
    Files,
    File,
    Content,
    Delete,
    Create,
    /// A look at one batch.
    Look,
    /// The list of batches.
    List,
    Cancel,
    Unknown,
}

impl Kind {
    fn of(call: &Call) -> Self {
        let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        match (call.method.as_str(), parts.as_slice()) {
            ("POST", ["v1", "chat", "completions"] | ["v1", "responses"]) => Self::Chat,
            ("POST", ["v1", "files"]) => Self::Upload,
            ("GET", ["v1", "files"]) => Self::Files,
            ("GET", ["v1", "files", _]) => Self::File,
            ("GET", ["v1", "files", _, "content"]) => Self::Content,
            ("DELETE", ["v1", "files", _]) => Self::Delete,
            ("POST", ["v1", "batches"]) => Self::Create,
            ("GET", ["v1", "batches"]) => Self::List,
            ("GET", ["v1", "batches", _]) => Self::Look,
            ("POST", ["v1", "batches", _, "cancel"]) => Self::Cancel,
            _ => Self::Unknown,
        }
    }
}

/// What is done with a call.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    /// What a good provider does.
    Right,
    /// Nothing; this comes back.
    Instead(Act),
    /// The right thing; this comes back all the same.
    Despite(Act),
    /// The right thing; the reply breaks off in its middle.
    Cut,
    /// The right thing; its reply is edited.
    Edit(Edit),
}

/// Has the last word on the body of a reply.
#[derive(Clone)]
pub(crate) struct Edit(pub(crate) Arc<EditFn>);
type EditFn = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

impl std::fmt::Debug for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edit")
    }
}

/// How a batch ends, once its stages are over. `done` counts the lines that it came to, from the first.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Completed,
    Expired {
        done: usize,
    },
    Cancelled {
        done: usize,
    },
    Failed {
        code: &'static str,
        message: String,
        done: usize,
    },
    /// Only by being cancelled.
    Never {
        done: usize,
    },
    /// From one look to the next, nobody knows it any more.
    Vanishes,
}

impl End {
    pub(crate) fn failed(code: &'static str, done: usize) -> Self {
        Self::Failed { code, message: "the script says so".to_owned(), done }
    }
}

/// A request that the provider works on.
pub(crate) struct Ask<'a> {
    pub(crate) body: &'a Value,
    /// The text of its last message.
    pub(crate) text: String,
    /// How often this very body has come before.
    pub(crate) seen: usize,
    pub(crate) is_batch: bool,
}

impl Ask<'_> {
    /// The token limit that it was sent with.
    pub(crate) fn limit(&self) -> Option<u64> {
        let names = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        names.iter().find_map(|name| self.body[*name].as_u64())
    }
}

/// What a request comes to.
#[derive(Clone, Debug)]
pub(crate) enum Inner {
    /// An answer.
    Says(String),
    /// An answer that is cut by the token limit.
    Cut(String),
    /// A reply with this status and code.
    Fails(u16, &'static str),
    /// No reply; in a batch, a line with this error.
    Dies(&'static str),
    /// No reply and no line.
    Lost,
}

/// One request of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) custom_id: String,
    pub(crate) url: String,
    pub(crate) body: Value,
}

/// The lines of a file, without their ends.
pub(crate) type Lines = Vec<Vec<u8>>;
type OnCall = dyn Fn(Kind, usize) -> Do + Send + Sync;
type Answer = dyn Fn(&Ask) -> Inner + Send + Sync;
type Ends = dyn Fn(usize) -> End + Send + Sync;
type EditLines = dyn Fn(usize, &mut Lines, &mut Lines) + Send + Sync;
type EditObject = dyn Fn(usize, &mut Value) + Send + Sync;

/// What the provider does where it is not to be good. Calls, batches and looks are counted from 1.
pub(crate) struct Script {
    /// What a batch says of itself at its first looks.
    pub(crate) stages: Vec<&'static str>,
    /// What is done with the n-th call of a kind.
    pub(crate) on: Box<OnCall>,
    /// What a request comes to. Must not block.
    pub(crate) answer: Box<Answer>,
    /// How the n-th batch ends.
    pub(crate) end: Box<Ends>,
    /// Has the last word on the lines of the output and of the error file of the n-th batch.
    pub(crate) lines: Box<EditLines>,
    /// Has the last word on the n-th batch as it is shown.
    pub(crate) object: Box<EditObject>,
    /// How many lines a batch has done when it is cancelled.
    pub(crate) done_when_cancelled: usize,
    /// How many batches and files of others are there, each newer than any of ours.
    pub(crate) foreign: usize,
    /// How many words may be queued in batches.
    pub(crate) queue_tokens: Option<usize>,
    /// Whether there are files and batches at all.
    pub(crate) has_batches: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            stages: vec!["validating", "in_progress", "finalizing"],
            on: Box::new(|_, _| Do::Right),
            answer: Box::new(|ask| Inner::Says(ask.text.to_uppercase())),
            end: Box::new(|_| End::Completed),
            lines: Box::new(|_, _, _| {}),
            object: Box::new(|_, _| {}),
            done_when_cancelled: 0,
            foreign: 0,
            queue_tokens: None,
            has_batches: true,
        }
    }
}

/// Where in a call everything stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// It has come, and nothing is done with it.
    Come,
    /// It is done, and nothing goes back.
    Done,
    /// The reply is on its way.
    Replied,
}

#[derive(Clone, Copy)]
struct Stop {
    left: usize,
    /// `None` is any but a realtime one.
    kind: Option<Kind>,
    point: Point,
}

impl Stop {
    fn counts(self, kind: Kind) -> bool {
        self.kind.map_or(kind != Kind::Chat, |wanted| wanted == kind)
    }
}

#[derive(Default)]
struct State {
    books: Books,
    log: Vec<(Kind, Call)>,
    /// Counts down to the call at which everything stops.
    stop: Option<Stop>,
    has_stopped: bool,
    is_over: bool,
}

struct Shared {
    script: Script,
    state: Mutex<State>,
    changed: Condvar,
}

/// A provider of files, batches and realtime answers, on a port of its own.
pub(crate) struct BatchProvider {
    port: u16,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl BatchProvider {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { script, state: Mutex::default(), changed: Condvar::new() });
        let ours = Arc::clone(&shared);
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.state().is_over {
                    return;
                }
                let shared = Arc::clone(&ours);
                std::thread::spawn(move || serve(&stream.unwrap(), &shared));
            }
        });
        Self { port, shared, listening: Some(listening) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The kinds of all calls so far, in the order in which they came.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.shared.state().log.iter().map(|(kind, _)| *kind).collect()
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.kinds().into_iter().filter(|found| *found == kind).count()
    }

    /// All calls of a kind so far.
    pub(crate) fn calls(&self, kind: Kind) -> Vec<Call> {
        let state = self.shared.state();
        state.log.iter().filter(|(found, _)| *found == kind).map(|(_, call)| call.clone()).collect()
    }

    /// All batches that were created, in that order.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        self.shared.state().books.batches.clone()
    }

    /// How many times each text was paid for.
    pub(crate) fn bought(&self) -> BTreeMap<String, usize> {
        let mut bought = BTreeMap::new();
        for (body, times) in &self.shared.state().books.charges {
            *bought.entry(text_of(&serde_json::from_str(body).unwrap())).or_default() += times;
        }
        bought
    }

    /// Lets no batch end, until it is told otherwise.
    pub(crate) fn hold(&self) -> &Self {
        self.shared.state().books.is_held = true;
        self
    }

    pub(crate) fn release(&self) {
        self.shared.state().books.is_held = false;
    }

    /// Stops at the n-th control call from now on, which is any but a realtime one.
    pub(crate) fn stop_at(&self, nth: usize, point: Point) {
        self.stop(Stop { left: nth, kind: None, point });
    }

    /// Stops at the next call of a kind.
    pub(crate) fn stop_at_next(&self, kind: Kind, point: Point) {
        self.stop(Stop { left: 1, kind: Some(kind), point });
    }

    fn stop(&self, stop: Stop) {
        let mut state = self.shared.state();
        (state.stop, state.has_stopped) = (Some(stop), false);
    }

    /// Says whether it has stopped where it was told to.
    pub(crate) fn has_stopped(&self) -> bool {
        self.shared.state().has_stopped
    }

    /// Lets go of the call at which it has stopped; no reply goes back.
    pub(crate) fn go_on(&self) {
        let mut state = self.shared.state();
        (state.stop, state.has_stopped) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Takes the breaches off the books.
    pub(crate) fn take_breaches(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().books.breaches)
    }

    /// Waits until something holds of it; fails after a generous while.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it never came to this: {what}; {:?}", self.kinds());
    }
}

impl Drop for BatchProvider {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
        let breaches = self.take_breaches();
        if !std::thread::panicking() {
            assert!(
                breaches.is_empty(),
                "the provider was sent what it does not allow: {breaches:#?}"
            );
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Puts a call down. Returns which one of its kind it is, and where in it to stop.
    fn put_down(&self, kind: Kind, call: &Call) -> (usize, Option<Point>) {
        let mut state = self.state();
        state.log.push((kind, call.clone()));
        let nth = state.log.iter().filter(|(found, _)| *found == kind).count();
        let Some(stop) = state.stop.filter(|stop| stop.counts(kind)) else { return (nth, None) };
        state.stop = (stop.left > 1).then_some(Stop { left: stop.left - 1, ..stop });
        (nth, (stop.left == 1).then_some(stop.point))
    }

    /// Says that this is the point, and stays there until it is told to go on.
    fn stop_here(&self, point: Point) {
        let mut state = self.state();
        state.has_stopped = true;
        while point != Point::Replied && state.has_stopped && !state.is_over {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn hang(&self) {
        let mut state = self.state();
        while !state.is_over {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn reply(&self, kind: Kind, nth: usize, call: &Call) -> Reply {
        let is_there = self.script.has_batches || kind == Kind::Chat;
        if !is_there {
            return Reply::Plain(Act::json(404, &json!({"detail": "Not Found"})));
        }
        let right = || self.state().books.handle(&self.script, kind, call);
        match (self.script.on)(kind, nth) {
            Do::Right => right(),
            Do::Instead(act) => Reply::Plain(act),
            Do::Despite(act) => {
                right();
                Reply::Plain(act)
            }
            Do::Cut => right().cut(),
            Do::Edit(edit) => match right() {
                Reply::Plain(Act::Reply(status, headers, body)) => {
                    Reply::Plain(Act::Reply(status, headers, (edit.0)(&body)))
                }
                other => other,
            },
        }
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(call) = http::read(&mut reader) {
        let kind = Kind::of(&call);
        let (nth, stop) = shared.put_down(kind, &call);
        if stop == Some(Point::Come) {
            return shared.stop_here(Point::Come);
        }
        let reply = shared.reply(kind, nth, &call);
        if stop == Some(Point::Done) {
            return shared.stop_here(Point::Done);
        }
        match &reply {
            Reply::Plain(Act::Hang) => return shared.hang(),
            Reply::Plain(Act::Play(play)) => return (play.0)(stream, &|| shared.state().is_over),
            _ => {}
        }
        let goes_on = reply.write(stream);
        if stop == Some(Point::Replied) {
            shared.stop_here(Point::Replied);
        }
        if !goes_on || call.is_last() {
            return;
        }
    }
}

/// The text of a body's last message.
pub(crate) fn text_of(body: &Value) -> String {
    let messages = body.get("messages").or_else(|| body.get("input"));
    let last = messages.and_then(|messages| messages.as_array()?.last());
    last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
}
