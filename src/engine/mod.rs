//! The engine: it carries out what [`crate::machine`] decides.
//!
//! ```text
//!  feeders ──jobs──▶ dispatcher ──orders──▶ writer thread (commits) ──receipts──▶ dispatcher
//!  (read, render)        │  ▲                                                        │
//!                        ▼  └──landings── workers (one call each) ◀──promise committed┘
//! ```
//!
//! One dispatcher owns every decision and the order of events. A worker opens no socket before its
//! promise is committed: it is only ever started by the receipt of that commit. The engine knows no
//! terminal: it tells an observer [`crate::domain::Event`]s.

mod audit;
mod batches;
mod clock;
mod dispatcher;
mod feeder;
mod followers;
mod lane;
mod pending;
mod run;
mod secret;
mod task;
mod transport;
mod worker;
mod world;

pub use audit::{
    AuditPlan, AuditReport, Bought, Check, Checked, DoubleBuys, Doubts, Finding, KEPT, MakeParts,
    RowName, audit,
};
pub use batches::BatchServer;
pub use clock::Clock;
#[doc(hidden)]
pub use run::run_with;
pub use run::{
    BatchPlan, Control, EngineError, LIMITS_KEPT_MS, MostInBatches, Opens, Purpose, RunPlan, run,
};
pub use secret::Secret;
pub use task::{Prices, Server, Task, TaskParts};
#[doc(hidden)]
pub use transport::{BrokenBody, Carrying, NoReply, ReplyBody, SentBody, Wire};
pub use transport::{Proxies, Transport, is_near};
pub use world::World;
