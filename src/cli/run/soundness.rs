//! Looks at all of a large project beside the run that has begun on it: nobody waits for that, and a damaged file
//! stops the run as soon as it is known to be one.

use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use crate::cli::failure::Failure;
use crate::engine::{Clock, Control};
use crate::store::Store;

/// A check under way. Dropped, it ends: it must not be the last to have the file open.
pub(super) struct Soundness {
    interrupt: Box<dyn Fn() + Send>,
    thread: Option<JoinHandle<()>>,
}

impl Soundness {
    /// Starts the check. `None` where it cannot be made, which the run will meet as well.
    pub(super) fn check(project: &Path, control: &UnboundedSender<Control>) -> Option<Self> {
        let store = Store::open_to_read(project, Clock::now()).ok()?;
        let interrupt = Box::new(store.interrupter());
        let control = control.clone();
        let look = move || {
            if let Err(error) = store.must_be_sound() {
                // Nobody listens once the run has ended, nor is this more than the interruption then.
                let _ = control.send(Control::Damaged(Failure::from(error).line()));
            }
        };
        let thread = std::thread::Builder::new().name("overnight-soundness".to_owned());
        Some(Self { interrupt, thread: Some(thread.spawn(look).ok()?) })
    }
}

impl Drop for Soundness {
    fn drop(&mut self) {
        (self.interrupt)();
        if let Some(thread) = self.thread.take() {
            // A check that broke off has said nothing.
            let _ = thread.join();
        }
    }
}
