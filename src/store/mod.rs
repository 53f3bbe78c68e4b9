//! The record: one SQLite file, and all the SQL that there is.
//!
//! A [`Store`] is one connection. Commands open one and ask it questions; during a run one more is
//! moved into the writer thread (`writer`) and is the only one that writes. The file is in WAL mode
//! with `synchronous=FULL`: a commit that returned is on the disk, and readers never wait for it.
//! Reads must never change the file, and nothing here may call a provider, read a clock or print.
//!
//! Files, each named for the question it answers: `open` (is this a project, may I use it),
//! `migrate` (which format is it), `project`, `prompts`, `add` (rows coming in), `due` (what is
//! left), `promise` and `ledger` (promise and settle), `book` (what they add up to), `batches` and `collect`
//! (jobs at a provider and what they bring), `recover` (what a crash left), `retry` (what a person asks
//! for anew), `sample` (the rows of a pilot), `money` (what counts against a budget), `prices` (what tokens cost here),
//! `rate_limits` (how fast may be sent), `learned` (what answers teach about those to come), `report`, `trail`, `answers` (what
//! is there), `audit` (the same as evidence, piece by piece), `codec` (how bodies are kept), `backup` (a copy that is whole),
//! `rehearsal` (what a rehearsal asks of its copy), `lock` (one run a project), `place` (what the disk under it lets one do), `fuse`
//! (where a test breaks off), `stop_point` (where a test stops the process).

mod add;
mod answers;
mod audit;
mod backup;
mod batches;
mod book;
mod codec;
mod collect;
mod due;
mod error;
mod fuse;
mod learned;
mod ledger;
mod lock;
mod migrate;
mod money;
mod open;
mod place;
mod prices;
mod project;
mod promise;
mod prompts;
mod rate_limits;
mod recover;
mod rehearsal;
mod report;
mod retry;
mod sample;
pub(crate) mod stop_point;
mod trail;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use add::content_key;
pub use add::{AddReport, Adding, RemoveReport};
pub use audit::{
    AttemptEvidence, BatchEvidence, BoughtTwice, DictionaryEvidence, FileProblem, Gap,
    LentEvidence, MigrationEvidence, PackedEvidence, ProjectEvidence, PromptEvidence,
    RequestEvidence, RowEvidence, RunEvidence, SourceEvidence, StatusEvidence, StrayEvidence,
    Taken, WrongSum,
};
pub use backup::{Backup, leftovers};
pub use batches::{BatchChange, BatchCost, BatchRecord, InputLine, NewBatch, SeenBatch};
pub use codec::{Codec, Packed, Unpacked};
pub use collect::{LineKind, LineOwner, LineSettled, ResultFile, ResultLine, Stray};
pub use due::{DueRequest, Existing};
pub use error::StoreError;
#[doc(hidden)]
pub use fuse::{Fuse, LastCommit};
pub use learned::{Attempts, BilledAnswer, Experience};
pub use ledger::Settlement;
pub use lock::{LockState, RunLock};
pub use money::{Counted, TokensUsed, Unpriced};
pub use open::{Create, Store};
pub use place::free_bytes;
pub use prices::PriceRecord;
pub use project::{ProjectFacts, RunFacts, RunRecord};
pub use promise::{NewBody, Promise, PromiseFor, Promised, Seat, Twin, Way};
pub use prompts::PromptRecord;
pub use recover::Recovered;
pub use rehearsal::{PastAnswer, RouteSum, RunBatch};
pub use report::{FailureExample, Perhaps, SourceLine, Spending, StateCounts};
pub use retry::{Reopened, RetryFilter};
pub use sample::Sampled;
pub use trail::{RequestPlace, TrailAttempt, TrailRequest, TrailRow};
pub use writer::{Order, Receipt, Turn, Writer, Writing};
