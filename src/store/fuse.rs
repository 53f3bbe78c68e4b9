//! Where a test ends a writer as if its process had been killed there. No run of a person has one.
//!
//! What was committed until then is on the disk and nothing after it ever is, whatever else of the
//! run is still alive: so a test can walk every cut between two commits.

/// Whether those who ordered the last commit hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastCommit {
    /// They do, and what they order next is never carried out.
    Told,
    /// They do not.
    Untold,
}

/// Ends a writer between two commits.
pub struct Fuse {
    /// Commits that go through.
    pub commits: u64,
    /// Whether the last of them is told.
    pub last: LastCommit,
    /// Orders that one commit holds at most.
    pub group: usize,
    /// Called in the writer's thread once it is over; the thread ends when this returns.
    pub burnt: Box<dyn FnOnce() + Send>,
}

/// How far a fuse has burnt, at an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spark {
    /// The order is carried out.
    Far,
    /// The order is carried out, untold, and is the last one.
    AtLast,
    /// The order is not carried out.
    Burnt,
}

impl Fuse {
    /// Burns down by one commit.
    pub(super) fn burn(&mut self) -> Spark {
        let left = self.commits;
        self.commits = left.saturating_sub(1);
        match (left, self.last) {
            (0, LastCommit::Told | LastCommit::Untold) => Spark::Burnt,
            (1, LastCommit::Untold) => Spark::AtLast,
            (_, LastCommit::Told | LastCommit::Untold) => Spark::Far,
        }
    }
}
