//! The simulated provider without a socket: for runs that are simulated themselves.
//!
//! It is the same provider, on the caller's runtime and by its time. Where a connection would be closed or
//! reset, the wire tells of a broken one.

use std::io;
use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;

use super::Settings;
use super::ledger::Ledger;
use super::server::Fate;
use super::service::{self, State};
use crate::domain::FailureClass;
use crate::engine::{BrokenBody, Carrying, NoReply, SentBody, Wire};

/// A simulated provider at the end of a wire.
#[derive(Clone, Debug)]
pub struct Wired {
    state: Arc<State>,
}

/// Makes a simulated provider that no socket leads to. Fails where the ledger's file cannot be opened.
pub fn wired(settings: Settings) -> io::Result<Wired> {
    Ok(Wired { state: Arc::new(State::new(settings, false)?) })
}

impl Wired {
    /// Returns the ledger as it stands.
    pub fn ledger(&self) -> Ledger {
        self.state.books()
    }
}

impl Wire for Wired {
    fn carry(&self, request: Request<SentBody>) -> Carrying {
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            match service::serve(state, Arc::new(Fate::default()), request).await {
                Ok(reply) => Ok(reply.map(|body| body.map_err(BrokenBody::of).boxed())),
                Err(closed) => {
                    let message = closed.to_string();
                    Err(NoReply { class: FailureClass::Connection, message })
                }
            }
        })
    }
}
