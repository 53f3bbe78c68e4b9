//! `overnight simulate` as another program meets it: its line, its socket, its end.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::{Value, json};

/// A server of our own; it is gone when the test is.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    line: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut child = overnight(options).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Self { child, stdout, line }
    }

    /// Returns `127.0.0.1:PORT`, as the line tells it.
    fn address(&self) -> &str {
        let rest = self.line.strip_prefix("http://").unwrap_or_else(|| panic!("{:?}", self.line));
        rest.strip_suffix("/v1\n").unwrap_or_else(|| panic!("{:?}", self.line))
    }

    /// Asks it to end, as a person or a supervisor would; returns what it wrote until then.
    #[cfg(unix)]
    fn end(mut self, signal: &str) -> (ExitStatus, String, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let (mut out, mut talk) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
        (self.child.wait().unwrap(), out, talk)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn overnight(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overnight"));
    command.arg("simulate").args(options).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Makes one call and returns its status line and its JSON.
fn call(address: &str, head: &str, body: &str) -> (String, Value) {
    let mut socket = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!("{head} HTTP/1.1\r\nHost: {address}\r\nConnection: close");
    write!(
        socket,
        "{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

fn ask(address: &str, model: &str) -> (String, Value) {
    let message = json!({"role": "user", "content": "Is it raining?"});
    let body = json!({"model": model, "messages": [message]}).to_string();
    call(address, "POST /v1/chat/completions", &body)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn calls_are_answered_where_the_line_says() {
    let server = Server::start(&["--port", "0", "--model", "small"]);
    let (status, reply) = ask(server.address(), "small");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(reply["model"], "small");
    assert!(reply["usage"]["prompt_tokens"].as_u64() > Some(0));
    let (status, reply) = ask(server.address(), "large");
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert_eq!(reply["error"]["code"], "model_not_found");
    let (_, ledger) = call(server.address(), "GET /ledger", "");
    assert_eq!(ledger["totals"]["charged_requests"], 1);
}

#[test]
fn as_json_the_line_is_an_object() {
    let server = Server::start(&["--port", "0", "--json", "-q"]);
    let line: Value = serde_json::from_str(&server.line).unwrap();
    let base_url = line["base_url"].as_str().unwrap();
    let address = base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
    assert_eq!(ask(address, "any").0, "HTTP/1.1 200 OK");
}

#[cfg(unix)]
#[test]
fn told_to_end_it_sums_up_and_leaves_the_ledger_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("charges.jsonl");
    let ledger = path.to_str().unwrap();
    for (nth, signal) in ["-INT", "-TERM"].into_iter().enumerate() {
        let options = ["--port", "0", "--faults", "500=first:1", "--ledger", ledger];
        let server = Server::start(&options);
        let base_url = server.line.trim_end().to_owned();
        assert_eq!(ask(server.address(), "small").0, "HTTP/1.1 500 Internal Server Error");
        assert_eq!(ask(server.address(), "small").0, "HTTP/1.1 200 OK");
        let (status, out, talk) = server.end(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(out, "", "stdout has the one line");
        assert!(talk.contains(&format!("overnight init --base-url {base_url}")), "{talk}");
        assert!(talk.contains("2 requests: 1 charged ("), "{talk}");
        assert!(talk.contains("faults that struck: 1 500"), "{talk}");
        assert_eq!(lines(&path).len(), nth + 1);
    }
}

#[cfg(unix)]
#[test]
fn quiet_it_says_nothing_but_the_line() {
    let server = Server::start(&["--port", "0", "--quiet"]);
    let (status, out, talk) = server.end("-TERM");
    assert_eq!((status.code(), out.as_str(), talk.as_str()), (Some(0), "", ""));
}

#[test]
fn a_port_in_use_is_told_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = overnight(&["--port", &port]).output().unwrap();
    let expected = format!(
        "error: port {port} of 127.0.0.1 is in use by another program\n\
         hint: `overnight simulate --port 0` takes any port that is free\n"
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}
