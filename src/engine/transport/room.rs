//! The memory that replies may take together.
//!
//! A reply that grows beyond what any answer has takes room before it is read on, once and for all that it may
//! come to, so that two of them never wait for each other. It gives back what it did not need, and the rest when
//! it is on record. While there is no room it stays with the provider, and its time runs on.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much there is, in MiB.
const ALL_MIB: usize = 64;

/// All the room there is.
#[derive(Clone, Debug)]
pub(super) struct Rooms(Arc<Semaphore>);

/// The room of one reply.
#[derive(Debug)]
pub(in crate::engine) struct Room {
    /// Held for as long as this is.
    permit: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ALL_MIB)))
    }

    /// Takes room for so many bytes, or all there is, once it is free.
    pub(super) async fn take(&self, bytes: usize) -> Room {
        let room = mib(bytes).min(ALL_MIB) as u32;
        // The semaphore is never closed; if it were, replies would do without.
        Room { permit: Arc::clone(&self.0).acquire_many_owned(room).await.ok() }
    }
}

impl Room {
    /// Gives back what is beyond so many bytes.
    pub(super) fn keep(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(mib(bytes))));
        }
    }
}

fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_taken_once_and_given_back_bit_by_bit() {
        let rooms = Rooms::new();
        let mut first = rooms.take(32 << 20).await;
        let second = rooms.take(usize::MAX >> 1);
        first.keep(1);
        assert_eq!(rooms.0.available_permits(), ALL_MIB - 1);
        drop(first);
        assert_eq!(second.await.permit.map(|permit| permit.num_permits()), Some(ALL_MIB));
        assert_eq!(rooms.0.available_permits(), ALL_MIB);
    }
}
