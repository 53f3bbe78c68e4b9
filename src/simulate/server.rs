//! The socket side: accepting, HTTP/1.1, and ending a connection in the way that was ordered.
//!
//! A true reset needs the socket to be closed with `SO_LINGER` 0 and without the orderly shutdown
//! that hyper would send first; so each connection's socket stands in a [`Wire`] that looks at a
//! flag when it is let go.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::service::{self, State};
use crate::engine::BrokenBody;

/// How long connections may go on after the simulator is told to stop.
const GRACE: Duration = Duration::from_secs(1);
/// How long accepting rests when the process has no file descriptors left.
const REST: Duration = Duration::from_millis(20);
/// The most bytes of one request's head.
const HEAD_BYTES: usize = 64 * 1024;

/// How a connection is to end.
#[derive(Debug, Default)]
pub(super) struct Fate {
    reset: AtomicBool,
}

impl Fate {
    /// Orders that the connection is reset when it is let go.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }
}

/// Opens the port, on this machine's own address alone.
pub(super) async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Serves until told to stop (or until the teller is gone), then lets replies under way go out.
pub(super) async fn run(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            _ = stop.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, Arc::clone(&state), stop.clone()));
            }
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    // What is still there after the grace is aborted as the set is dropped.
    let _in_time = tokio::time::timeout(GRACE, all_gone).await;
}

async fn serve(stream: TcpStream, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    // Without it small replies would wait for the client's delayed acknowledgements.
    let _harmless = stream.set_nodelay(true);
    let fate = Arc::new(Fate::default());
    let wire = TokioIo::new(Wire { stream, fate: Arc::clone(&fate) });
    let service = service_fn(move |request: Request<Incoming>| {
        let request = request.map(|body| body.map_err(BrokenBody::of).boxed_unsync());
        service::serve(Arc::clone(&state), Arc::clone(&fate), request)
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(wire, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that left, a fault that was ordered, a head that is not HTTP: none is ours to mend.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the simulator ended early");
    }
}

/// A socket that is reset instead of closed if its fate says so.
struct Wire {
    stream: TcpStream,
    fate: Arc<Fate>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.fate.is_reset() {
            // With no time to linger, closing discards what is unsent and sends RST.
            let _best_effort =
                socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fate.is_reset() {
            // An orderly end now would hide the reset behind it.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
