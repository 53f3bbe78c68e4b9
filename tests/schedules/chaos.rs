//! The way to the provider, on which things get lost and overtake each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use http::Request;
use overnight::domain::FailureClass;
use overnight::engine::{Carrying, NoReply, SentBody, Wire};
use overnight::simulate::Wired;

use crate::draw::Loss;
use crate::life::Log;

/// A wire that loses some of what it carries. What has arrived at the provider is done there, whoever has died
/// meanwhile.
pub(crate) struct Chaos {
    pub(crate) provider: Wired,
    pub(crate) loss: Loss,
    pub(crate) rng: Mutex<Rng>,
    pub(crate) is_calm: Arc<AtomicBool>,
    pub(crate) log: Log,
}

impl Chaos {
    fn pause(&self) -> Duration {
        self.loss.longest.mul_f64(self.rng.lock().unwrap().f64().powi(3))
    }

    fn loses(&self, share: f64) -> bool {
        let drawn = self.rng.lock().unwrap().f64();
        drawn < share && !self.is_calm.load(Ordering::Relaxed)
    }
}

fn lost(what: &str) -> NoReply {
    NoReply { class: FailureClass::Connection, message: format!("the {what} was lost") }
}

/// The wire as a run holds it.
pub(crate) struct Held(pub(crate) Arc<Chaos>);

impl Wire for Held {
    fn carry(&self, request: Request<SentBody>) -> Carrying {
        let chaos = Arc::clone(&self.0);
        let what = format!("{} {}", request.method(), request.uri().path());
        let (there, back) = (chaos.pause(), chaos.pause());
        let (is_lost, is_unheard) =
            (chaos.loses(chaos.loss.requests), chaos.loses(chaos.loss.replies));
        Box::pin(async move {
            tokio::time::sleep(there).await;
            if is_lost {
                chaos.log.note(&format!("wire {what}: lost on its way"));
                return Err(lost("request"));
            }
            chaos.log.note(&format!("wire {what}: arrives"));
            let reply = tokio::spawn(chaos.provider.carry(request)).await.unwrap();
            tokio::time::sleep(back).await;
            if is_unheard {
                chaos.log.note(&format!("wire {what}: its reply is lost"));
                return Err(lost("reply"));
            }
            let status = reply.as_ref().map_or(0, |reply| reply.status().as_u16());
            chaos.log.note(&format!("wire {what}: {status}"));
            reply
        })
    }
}
