//! TLS that is not to be trusted, and none where it is expected.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::child::watch;
use crate::support::batches::runs::query;
use crate::support::{Folder, completion};

const BOUND: Duration = Duration::from_mins(1);
const KEY: &str = "sk-of-nobody-0123456789";

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
}

/// A server that speaks TLS with a certificate of its own making. Returns its port and what it was told.
fn tls_server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let certificate = CertificateDer::from(std::fs::read(fixture("self-signed.der")).unwrap());
    let key = std::fs::read(fixture("self-signed.key.der")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream, heard| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            heard.lock().unwrap().push(line.clone());
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let reply = completion("fine", "stop").to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            reply.len()
        );
        let _ = reader.get_mut().write_all((head + &reply).as_bytes());
        reader.get_mut().conn.send_close_notify();
        let _ = reader.get_mut().flush();
    })
}

/// A server that speaks without TLS to everybody. Returns its port and the bytes that it was told.
fn plain_server(says: &'static [u8]) -> (u16, Arc<Mutex<Vec<String>>>) {
    serve(move |mut stream, heard| {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap_or(0);
        heard.lock().unwrap().push(String::from_utf8_lossy(&bytes[..read]).into_owned());
        let _ = stream.write_all(says);
    })
}

fn serve(
    talk: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            talk(stream, &log);
        }
    });
    (port, heard)
}

fn project(port: u16) -> Folder {
    let mut folder = Folder::new();
    folder.env("OPENAI_API_KEY", KEY);
    folder.write("rows.csv", "text\none\ntwo\n");
    let url = format!("https://localhost:{port}/v1");
    folder.ok(&["init", "--model", "gpt-4o-mini", "--prompt", "{{ text }}", "--base-url", &url]);
    folder.ok(&["add", "rows.csv"]);
    folder
}

#[test]
fn a_certificate_that_nobody_trusts_ends_the_run_and_gets_no_key() {
    let (port, heard) = tls_server();
    let folder = project(port);
    let ended = watch(&folder, &["run", "--route", "realtime"], BOUND).ends(1);
    assert!(ended.said.stderr.contains("certificate"), "{:?}", ended.said);
    assert!(ended.took < Duration::from_secs(30), "{:?}", ended.took);
    assert_eq!(heard.lock().unwrap().len(), 0, "not a word is said to it");
    let classes = query(&folder, "SELECT DISTINCT error_class FROM attempt");
    assert_eq!(classes, [["unreachable"]], "nothing was sent, and nothing is in doubt");
    watch(&folder, &["run", "--route", "batch", "--poll", "20ms"], BOUND).ends(1);
    assert_eq!(heard.lock().unwrap().len(), 0);
}

/// That the server is a good one otherwise: what it is refused for is the certificate.
#[test]
fn a_certificate_that_a_person_trusts_is_good() {
    let (port, heard) = tls_server();
    let mut folder = project(port);
    folder.env("SSL_CERT_FILE", fixture("self-signed.pem").to_str().unwrap());
    watch(&folder, &["run", "--route", "realtime"], BOUND).ends(0);
    assert!(heard.lock().unwrap().concat().contains(KEY));
}

#[test]
fn a_server_without_tls_gets_no_key() {
    let says: [&[u8]; 3] = [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"",
        b"\x16\x03\x03\xff\xff\x00\x00\x00",
    ];
    for says in says {
        let (port, heard) = plain_server(says);
        let folder = project(port);
        let ended =
            watch(&folder, &["run", "--route", "realtime", "--timeout", "2s"], BOUND).ends(1);
        assert!(ended.took < Duration::from_secs(40), "{:?}", ended.took);
        let heard = heard.lock().unwrap().concat();
        assert!(!heard.is_empty() && !heard.contains(KEY) && !heard.contains("sk-of"), "{heard}");
    }
}
