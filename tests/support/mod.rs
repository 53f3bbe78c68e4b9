//! What whole-command tests share: a folder with the binary run in it, and a provider whose every word is scripted.
//!
//! The scripted provider is written here a second time, over plain sockets, and shares no code with
//! the simulator: what both agree on is not an accident of one head.

#![expect(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod batches;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

/// A folder of its own, in which commands are run as a person would.
pub(crate) struct Folder {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Demands an exit code.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Reads stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.file(name), content).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// Sets a variable for the commands that follow.
    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the command, with an environment in which nothing of the machine's own shows.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overnight"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("HOSTNAME", "testhost")
            .env("NO_PROXY", "127.0.0.1")
            .envs(self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// Runs a command that must do what it is asked.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Said {
        self.run(args).ends(0)
    }

    /// Runs a command with something on stdin.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Said {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // A command that refuses early does not read on.
        let _ = child.stdin.take().unwrap().write_all(input);
        Said::of(child.wait_with_output().unwrap())
    }

    /// Starts a command and goes on.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Returns `status --json`.
    pub(crate) fn status(&self) -> Value {
        self.ok(&["status", "--json"]).json()
    }

    /// The files there are, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A request as it came over the socket.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How often this very body has come before.
    pub(crate) seen: usize,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The text of the last message.
    pub(crate) fn text(&self) -> String {
        let body = self.json();
        let messages = body.get("messages").or_else(|| body.get("input")).unwrap();
        messages.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned()
    }
}

/// What the scripted provider does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A whole reply: status, headers, body.
    Reply(u16, Vec<(String, String)>, Vec<u8>),
    /// Closes without a word.
    Close,
    /// Says that more will come than comes.
    Cut(Vec<u8>),
    /// Holds the connection until the provider stops.
    Hang,
    /// Does what it likes with the connection, which is closed then.
    Play(Play),
}

/// Something to do with a connection; told whether the provider has stopped, when it is to let go.
#[derive(Clone)]
pub(crate) struct Play(pub(crate) Arc<PlayFn>);
type PlayFn = dyn Fn(&TcpStream, &dyn Fn() -> bool) + Send + Sync;

impl std::fmt::Debug for Play {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Play")
    }
}

impl Act {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Reply(status, Vec::new(), body.to_string().into_bytes())
    }

    #[must_use]
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Reply(status, mut headers, body) => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Reply(status, headers, body)
            }
            other => other,
        }
    }

    /// A chat completion that says `text`.
    pub(crate) fn says(text: &str) -> Self {
        Self::finishes(text, "stop")
    }

    /// A chat completion with a finish reason.
    pub(crate) fn finishes(text: &str, finish_reason: &str) -> Self {
        Self::json(200, &completion(text, finish_reason)).with("x-request-id", "req_scripted")
    }

    /// An error in OpenAI's envelope.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(
            status,
            &json!({"error": {"message": message, "type": "some_error", "param": null, "code": code}}),
        )
    }
}

pub(crate) fn completion(text: &str, finish_reason: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "served-model",
        "choices": [{"index": 0, "finish_reason": finish_reason, "logprobs": null,
                     "message": {"role": "assistant", "content": text, "refusal": null}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    })
}

type Script = dyn Fn(&Request) -> Act + Send + Sync;

/// A provider that does what its script says, on a port of its own.
pub(crate) struct Provider {
    port: u16,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Provider {
    pub(crate) fn start(script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let (our_log, our_stop) = (Arc::clone(&log), Arc::clone(&stop));
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if our_stop.load(Ordering::SeqCst) {
                    return;
                }
                let (log, script, stop) = (our_log.clone(), script.clone(), our_stop.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &log, &*script, &stop));
            }
        });
        Self { port, log, stop, listening: Some(listening) }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    /// Waits until so many requests have come; fails after a generous while.
    pub(crate) fn wait_for(&self, requests: usize) {
        for _ in 0..6000 {
            if self.count() >= requests {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("only {} of {requests} requests came", self.count());
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Request>>, script: &Script, stop: &AtomicBool) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(mut request) = read_request(&mut reader) {
        let act = {
            let mut log = log.lock().unwrap();
            request.seen = log.iter().filter(|earlier| earlier.body == request.body).count();
            log.push(request.clone());
            drop(log);
            script(&request)
        };
        let written = match act {
            Act::Reply(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
                writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body))
            }
            Act::Cut(body) => {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 100);
                let _ = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body));
                return;
            }
            Act::Close => return,
            Act::Play(play) => return (play.0)(stream, &|| stop.load(Ordering::SeqCst)),
            Act::Hang => {
                while !stop.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body, seen: 0 })
}

/// A base URL at which nobody listens, for as long as the socket is held: no other test can get its port.
pub(crate) fn nobody() -> (socket2::Socket, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, format!("http://127.0.0.1:{port}/v1"))
}

/// The built-in provider as a server, in a process of its own.
pub(crate) struct Simulator {
    child: Child,
    base_url: String,
}

impl Simulator {
    pub(crate) fn start(folder: &Folder, args: &[&str]) -> Self {
        let all = [&["simulate", "--port", "0"], args].concat();
        let mut child = folder.command(&all).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, base_url: line.trim().to_owned() }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Asks for its ledger.
    pub(crate) fn ledger(&self) -> Value {
        let host = self.base_url.trim_start_matches("http://").trim_end_matches("/v1");
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET /ledger HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let body = &reply[reply.find('{').unwrap()..=reply.rfind('}').unwrap()];
        serde_json::from_str(body).unwrap()
    }

    /// One of the ledger's totals.
    pub(crate) fn total(&self, name: &str) -> u64 {
        self.ledger()["totals"][name].as_u64().unwrap()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A table with so many rows, keyed by `id`.
pub(crate) fn table(rows: usize) -> String {
    let mut text = String::from("id,review,note\n");
    for row in 1..=rows {
        text.push_str(&format!(
            "k{row:05},\"리뷰 {row}, a \"\"good\"\" one\nsecond line\",n{row}\n"
        ));
    }
    text
}
