//! The simulated provider in a test, and a client for it.
//!
//! The client is a hundred lines over a plain TCP stream, so that what is asserted is what went
//! over the wire: a reset is a reset, and a body that is cut is short.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use overnight::domain::UnixMs;
use overnight::simulate::{self, Ledger, Settings, Simulator};
use serde_json::{Value, json};

/// A simulator and the runtime that it runs on.
pub(crate) struct Served {
    runtime: tokio::runtime::Runtime,
    simulator: Option<Simulator>,
}

impl Served {
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(|| UnixMs(1_767_225_600_123));
        change(&mut settings);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let simulator = runtime.block_on(simulate::start(settings)).unwrap();
        Self { runtime, simulator: Some(simulator) }
    }

    pub(crate) fn with_faults(faults: &str) -> Self {
        Self::with(|settings| settings.faults = faults.parse().unwrap())
    }

    pub(crate) fn simulator(&self) -> &Simulator {
        self.simulator.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> String {
        let url = self.simulator().base_url();
        url.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1")).unwrap().to_owned()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.simulator().ledger()
    }

    pub(crate) fn stop(mut self) {
        let simulator = self.simulator.take().unwrap();
        self.runtime.block_on(simulator.stop());
    }

    pub(crate) fn send(&self, request: impl AsRef<[u8]>) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_ref())?;
        Reply::read(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> io::Result<Reply> {
        self.send(post(path, "", &body.to_string()))
    }

    pub(crate) fn chat(&self, text: &str) -> io::Result<Reply> {
        self.post("/v1/chat/completions", &chat(text))
    }
}

pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn chat(text: &str) -> Value {
    json!({"model": "small", "messages": [{"role": "user", "content": text}]})
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads one reply, up to its announced length or the end of the stream.
    pub(crate) fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length: u64 = headers["content-length"].parse().unwrap();
        let mut body = Vec::new();
        stream.take(length).read_to_end(&mut body)?;
        Ok(Self { status, headers, body })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn announced(&self) -> usize {
        self.headers["content-length"].parse().unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("-").to_owned()
    }
}
