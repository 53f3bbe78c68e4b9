//! The simulated provider without a socket: for runs that are simulated themselves.
//!
//! It is the same provider, on the caller's runtime and by its time. Where a connection would be closed or
//! reset, the wire tells of a broken one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;

use super::ledger::Ledger;
use super::server::Fate;
use super::service::{self, State, Time};
use super::{Settings, batches};
use crate::domain::FailureClass;
use crate::engine::{BrokenBody, Carrying, Clock, NoReply, SentBody, Wire};

/// A simulated provider at the end of a wire.
#[derive(Clone, Debug)]
pub struct Wired {
    state: Arc<State>,
}

/// Makes a simulated provider that no socket leads to. Fails where the ledger's file cannot be opened.
pub fn wired(settings: Settings) -> io::Result<Wired> {
    Ok(Wired { state: Arc::new(State::new(settings, Time::OfSettingsOnOneThread)?) })
}

/// The same, by the time of a clock and not by that of the settings.
pub fn wired_by(clock: Clock, settings: Settings) -> io::Result<Wired> {
    Ok(Wired { state: Arc::new(State::new(settings, Time::Of(clock))?) })
}

impl Wired {
    /// Forgets a batch and its files, once nobody will ask for them again: all that is known here is in memory.
    pub fn forget(&self, batch: &str) {
        batches::forget(&self.state, batch);
    }

    /// Returns the ledger as it stands.
    pub fn ledger(&self) -> Ledger {
        self.state.books()
    }
}

/// Simulated providers, each at the end of the wire that its name leads to.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// By the host of the URLs that lead there.
    pub providers: HashMap<String, Wired>,
}

impl Wire for Exchange {
    fn carry(&self, request: Request<SentBody>) -> Carrying {
        let host = request.uri().host().unwrap_or_default();
        if let Some(provider) = self.providers.get(host) {
            return provider.carry(request);
        }
        let message = format!("no wire leads to {host:?}");
        Box::pin(async { Err(NoReply { class: FailureClass::Unreachable, message }) })
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
