//! What a hostile server does with a connection, byte by byte.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Act, Play, completion};

/// What stands in hostile bodies, to be looked for where no body belongs.
pub(crate) const MARKER: &str = "WordsOfAHostileBody";

/// A connection on which anything may be said.
pub(crate) struct Wire<'a> {
    stream: &'a TcpStream,
    is_over: &'a dyn Fn() -> bool,
}

impl Wire<'_> {
    /// Says it all. Returns whether anybody still listens.
    pub(crate) fn say(&self, bytes: impl AsRef<[u8]>) -> bool {
        let mut rest = bytes.as_ref();
        let mut stream = self.stream;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if (self.is_over)() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Says it again and again for as long as anybody listens.
    fn forever(&self, bytes: impl AsRef<[u8]>) {
        while self.say(&bytes) {}
    }

    /// Says it so many times.
    fn times(&self, times: usize, bytes: impl AsRef<[u8]>) -> bool {
        (0..times).all(|_| self.say(&bytes))
    }

    /// Says a byte now and then, for as long as anybody listens.
    fn drip(&self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            if !self.say([byte]) || (self.is_over)() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

pub(crate) type PlayFn = fn(&Wire<'_>);

/// Makes an act of a play.
pub(crate) fn act(play: PlayFn) -> Act {
    Act::Play(Play(Arc::new(move |stream, is_over| {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
        play(&Wire { stream, is_over });
    })))
}

/// A hundred million bytes, a MiB at a time.
const HUNDRED_MB: usize = 100_000_000 / PIECE.len();
static PIECE: [u8; 1 << 20] = [b'x'; 1 << 20];

// A connection that could be used again and is closed would be the next request's trouble.
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn whole(wire: &Wire<'_>, body: impl AsRef<[u8]>) {
    let body = body.as_ref();
    if wire.say(format!("{OK}content-length: {}\r\n\r\n", body.len())) {
        wire.say(body);
    }
}

/// One play and what a realtime attempt that meets it is on record as.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) play: PlayFn,
    pub(crate) class: &'static str,
}

const fn scene(name: &'static str, class: &'static str, play: PlayFn) -> Scene {
    Scene { name, play, class }
}

impl Scene {
    /// Says whether it goes on until nobody waits any longer.
    pub(crate) fn is_slow(self) -> bool {
        self.class == "timeout"
    }

    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        SCENES.iter().find(|scene| scene.name == name)
    }
}

/// Floods, drips and nonsense: none of them is a reply, and each passes.
pub(crate) const SCENES: &[Scene] = &[
    scene("100 MB that are announced", "malformed_reply", |wire| {
        wire.say(format!("{OK}content-length: {}\r\n\r\n", HUNDRED_MB * PIECE.len()));
        wire.times(HUNDRED_MB, PIECE);
    }),
    scene("100 MB in chunks", "malformed_reply", |wire| {
        wire.say(CHUNKED);
        wire.times(HUNDRED_MB, chunk(&PIECE));
        wire.say("0\r\n\r\n");
    }),
    scene("100 MB up to the close", "malformed_reply", |wire| {
        wire.say(format!("{OK}\r\n"));
        wire.times(HUNDRED_MB, PIECE);
    }),
    scene("100 MB in one string", "malformed_reply", |wire| {
        wire.say(CHUNKED);
        wire.say(chunk(br#"{"id":"x","object":"list","status":"in_progress","data":[],"choices":[{"message":{"content":""#));
        wire.times(HUNDRED_MB, chunk(&PIECE));
        wire.say([chunk(b"\"}}]}"), b"0\r\n\r\n".to_vec()].concat());
    }),
    scene("100 MB with an error's status", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 503 X\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        wire.times(HUNDRED_MB, chunk(&PIECE));
        wire.say("0\r\n\r\n");
    }),
    scene("a body without end", "malformed_reply", |wire| {
        wire.say(CHUNKED);
        wire.forever(chunk(&PIECE));
    }),
    scene("a body without end or chunks", "malformed_reply", |wire| {
        wire.say(format!("{OK}\r\n"));
        wire.forever(PIECE);
    }),
    scene("a body of blanks without end", "malformed_reply", |wire| {
        wire.say(CHUNKED);
        wire.forever(chunk(&[b' '; 70_000]));
    }),
    scene("headers without end", "malformed_reply", |wire| {
        wire.say(OK);
        wire.forever("x-more: and more\r\n");
    }),
    scene("a header without end", "malformed_reply", |wire| {
        wire.say(format!("{OK}x-long: "));
        wire.forever(PIECE);
    }),
    scene("a thousand headers", "malformed_reply", |wire| {
        wire.say(OK);
        (0..1000).all(|nth| wire.say(format!("x-{nth}: {nth}\r\n")));
        wire.say("content-length: 2\r\n\r\n{}");
    }),
    scene("a status line without end", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 200 ");
        wire.forever(PIECE);
    }),
    scene("100 Continue without end", "timeout", |wire| {
        wire.forever("HTTP/1.1 100 Continue\r\n\r\n");
    }),
    scene("103 Early Hints without end", "timeout", |wire| {
        wire.forever("HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n");
    }),
    scene("a chunk extension without end", "connection", |wire| {
        wire.say(CHUNKED);
        wire.say("5;");
        wire.forever(PIECE);
    }),
    scene("trailers without end", "connection", |wire| {
        wire.say([CHUNKED.as_bytes(), &chunk(b"{}"), b"0\r\n"].concat());
        wire.forever("x-trailer: and more\r\n");
    }),
    scene("a chunk of all there is", "timeout", |wire| {
        wire.say(format!("{CHUNKED}ffffffffffffffff\r\n{{"));
        wire.drip(std::iter::repeat(b' '));
    }),
    scene("a chunk size beyond counting", "connection", |wire| {
        wire.say(format!("{CHUNKED}fffffffffffffffffffffff\r\n{{"));
    }),
    scene("a length beyond counting", "malformed_reply", |wire| {
        wire.say(format!("{OK}content-length: 99999999999999999999999\r\n\r\n{{"));
    }),
    scene("a length below nothing", "malformed_reply", |wire| {
        wire.say(format!("{OK}content-length: -1\r\n\r\n{{}}"));
    }),
    scene("two lengths", "malformed_reply", |wire| {
        wire.say(format!("{OK}content-length: 2\r\ncontent-length: 7\r\n\r\n{{}}"));
    }),
    scene("a length that is too long", "connection", |wire| {
        let body = completion(MARKER, "stop").to_string();
        wire.say(format!("{OK}content-length: {}\r\n\r\n{body}", body.len() + 1));
    }),
    scene("a length that is too short", "malformed_reply", |wire| {
        let body = completion(MARKER, "stop").to_string();
        wire.say(format!("{OK}content-length: {}\r\n\r\n{body}", body.len() - 1));
    }),
    scene("slow headers", "timeout", |wire| {
        wire.drip(OK.bytes().chain(std::iter::repeat(b'x')));
    }),
    scene("a slow body", "timeout", |wire| {
        wire.say(format!("{OK}content-length: 10000\r\n\r\n"));
        wire.drip(std::iter::repeat(b' '));
    }),
    scene("slow chunks", "timeout", |wire| {
        wire.say(CHUNKED);
        wire.drip(std::iter::repeat_n(b"1\r\n \r\n", 10_000).flatten().copied());
    }),
    scene("silence", "timeout", |wire| {
        wire.say("");
        wire.drip(std::iter::repeat_n(b'H', 1));
        while wire.say("") && !(wire.is_over)() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }),
    scene("another protocol", "malformed_reply", |wire| {
        wire.say("SSH-2.0-OpenSSH_9.7\r\n");
    }),
    scene("another version", "malformed_reply", |wire| {
        wire.say("HTTP/9.9 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    }),
    scene("no status", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\n{}");
    }),
    scene("an alert of TLS", "malformed_reply", |wire| {
        wire.say(b"\x15\x03\x01\x00\x02\x02\x28");
    }),
    scene("zeros", "malformed_reply", |wire| {
        wire.say([0; 4096]);
    }),
    scene("nothing at all", "connection", |_| ()),
    scene("100,000 arrays in each other", "malformed_reply", |wire| {
        whole(wire, "[".repeat(100_000));
    }),
    scene("100,000 objects in each other", "malformed_reply", |wire| {
        whole(wire, "{\"a\":".repeat(100_000));
    }),
    scene("100,000 whole arrays in each other", "malformed_reply", |wire| {
        whole(wire, "[".repeat(100_000) + &"]".repeat(100_000));
    }),
    scene("100,000 arrays where something is read", "malformed_reply", |wire| {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        whole(
            wire,
            format!("{{\"id\":{deep},\"choices\":{deep},\"data\":{deep},\"error\":{deep}}}"),
        );
    }),
    scene("a body in gzip that nobody asked for", "malformed_reply", |wire| {
        let body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00C\xbf\xa6\xa3\x02\x00\x00\x00";
        wire.say(format!("{OK}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len()));
        wire.say(body);
    }),
    scene("a page", "malformed_reply", |wire| {
        let page = format!("<html><body>{MARKER}</body></html>");
        wire.say(format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{page}", page.len()));
    }),
    scene("a stream of events", "malformed_reply", |wire| {
        whole(wire, "data: {\"id\":1}\n\ndata: [DONE]\n\n");
    }),
    scene("204 without a body", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    }),
    scene("status 999", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 999 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}");
    }),
    scene("status 000", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 000 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}");
    }),
    scene("a change of protocol", "malformed_reply", |wire| {
        wire.say("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n");
    }),
    scene("500 with a mad retry-after", "server_error", |wire| {
        wire.say("HTTP/1.1 500 X\r\nconnection: close\r\nretry-after: -99999999999999999999\r\nretry-after-ms: NaN\r\ncontent-length: 2\r\n\r\n{}");
    }),
    scene("429 with mad limits", "rate_limited", |wire| {
        wire.say(
            "HTTP/1.1 429 X\r\nconnection: close\r\nretry-after-ms: 1\r\nx-ratelimit-limit-requests: -1\r\nx-ratelimit-remaining-requests: 1e999\r\n\
             x-ratelimit-limit-tokens: 18446744073709551615\r\nx-ratelimit-remaining-tokens: 99999999999999999999999999\r\n\
             x-ratelimit-reset-tokens: never\r\nx-should-retry: perhaps\r\ncontent-length: 2\r\n\r\n{}",
        );
    }),
];
