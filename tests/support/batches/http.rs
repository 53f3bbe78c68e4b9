//! HTTP/1.1 over plain sockets, as far as a strict provider of files and batches needs it.
//!
//! It reads what came and says so; what is allowed is judged in `check`.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::net::TcpStream;

use super::super::Act;

/// A call as it came over the socket.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// Returns a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_last(&self) -> bool {
        self.header("connection").eq_ignore_ascii_case("close")
    }
}

/// Reads the next call, `None` once the other side is gone.
pub(super) fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let body = match headers.get("transfer-encoding") {
        Some(coding) if coding == "chunked" => chunked(reader)?,
        Some(_) => return None,
        None => {
            let length = headers.get("content-length").map_or("0", String::as_str);
            let mut body = vec![0; length.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            body
        }
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Call { method, path: path.to_owned(), query, headers, body })
}

fn chunked(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let length = usize::from_str_radix(line.trim_end().split(';').next()?, 16).ok()?;
        let start = body.len();
        // The data and its line end; after the last chunk only the line end.
        body.resize(start + length + 2, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        body.truncate(start + length);
        if length == 0 {
            return Some(body);
        }
    }
}

/// What goes back.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A reply of one piece, or none at all.
    Plain(Act),
    /// A file: in chunks whose borders mean nothing.
    File(Vec<u8>),
    /// The first half of a file, and then the connection breaks.
    HalfAFile(Vec<u8>),
}

impl Reply {
    /// Breaks off a reply in its middle.
    pub(super) fn cut(self) -> Self {
        match self {
            Self::Plain(Act::Reply(_, _, mut body)) => {
                body.truncate(body.len() / 2);
                Self::Plain(Act::Cut(body))
            }
            Self::File(body) => Self::HalfAFile(body),
            other => other,
        }
    }

    /// Writes it. Returns whether the connection can go on.
    pub(super) fn write(&self, mut stream: &TcpStream) -> bool {
        match self {
            Self::Plain(Act::Reply(status, headers, body)) => {
                let mut head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
                stream.write_all(&[head.as_bytes(), body].concat()).is_ok()
            }
            Self::Plain(Act::Cut(body)) => {
                let length = body.len() + 100;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                let _ = stream.write_all(&[head.as_bytes(), body].concat());
                false
            }
            Self::Plain(Act::Close | Act::Hang | Act::Play(_)) => false,
            Self::File(body) => {
                let mut bytes = file_head();
                body.chunks(777).for_each(|piece| bytes.extend(chunk(piece)));
                bytes.extend(b"0\r\n\r\n");
                stream.write_all(&bytes).is_ok()
            }
            Self::HalfAFile(body) => {
                let half = &body[..body.len() / 2];
                let _ = stream.write_all(&[file_head(), chunk(half)].concat());
                false
            }
        }
    }
}

fn file_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec()
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

/// One field of a form.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl Part {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Takes a form apart.
pub(super) fn parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>, String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind != "multipart/form-data" {
        return Err(format!("a form is sent as {kind:?}"));
    }
    let boundary = parameter(content_type, "boundary").ok_or("a form without a boundary")?;
    let (opening, delimiter) = (format!("--{boundary}"), format!("\r\n--{boundary}"));
    let mut rest = body.strip_prefix(opening.as_bytes()).ok_or("a form starts with something")?;
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            let is_end = end.is_empty() || end == b"\r\n";
            return is_end.then_some(parts).ok_or("a form goes on after its end".to_owned());
        }
        rest = rest.strip_prefix(b"\r\n").ok_or("a boundary without a line end")?;
        let end = find(rest, delimiter.as_bytes()).ok_or("a form without an end")?;
        parts.push(part(&rest[..end])?);
        rest = &rest[end + delimiter.len()..];
    }
}

fn part(bytes: &[u8]) -> Result<Part, String> {
    let end = find(bytes, b"\r\n\r\n").ok_or("a field without headers")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
    let disposition = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))
        .map(|(_, value)| value.trim())
        .ok_or("a field without a disposition")?;
    if !disposition.starts_with("form-data;") {
        return Err(format!("a field with the disposition {disposition:?}"));
    }
    let name = parameter(disposition, "name").ok_or(format!("no name in {disposition:?}"))?;
    let filename = parameter(disposition, "filename");
    Ok(Part { name, filename, bytes: bytes[end + 4..].to_vec() })
}

/// Returns `value` of `; name="value"` or `; name=value`.
fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then(|| value.trim_matches('"').to_owned())
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
