//! What is asked of the requests that are due: by which way, how many. `plan` and `run` read it alike.

use super::estimate::{Extent, OnLook};
use crate::cli::prices::PriceBook;
use crate::cli::text::whole;
use crate::engine::MostInBatches;
use crate::machine::plan::Liveness;
use crate::machine::request::InDoubtPolicy;
use crate::machine::route::{Asked, Oversized};

// A doc comment would become the help text of the command that this stands in.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Ways {
    /// By which way: `auto` takes batches where the provider has them and 500 requests or more are due.
    #[arg(long, value_name = "ROUTE", default_value = "auto")]
    pub(crate) route: RouteWish,
    /// What to do with requests that fit into no batch, or not into the provider's queue.
    #[arg(long, value_name = "POLICY", default_value = "realtime")]
    pub(crate) oversized: OversizedWish,
    /// Put at most N requests into one batch.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(1, None))]
    pub(crate) batch_size: Option<u64>,
    /// Let at most about N input tokens wait in the provider's queue for one model.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(1, None))]
    pub(crate) batch_tokens: Option<u64>,
    /// Take up at most N requests.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>(1, None))]
    pub(crate) limit: Option<u64>,
    /// Take up N rows at random: a pilot, from which `plan` learns what the rest will take.
    #[arg(long, value_name = "N", conflicts_with = "limit", allow_negative_numbers = true, value_parser = whole::<u64>(1, None))]
    pub(crate) sample: Option<u64>,
    /// Draw by this number whatever is drawn; the same one draws the same.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = whole::<u64>(0, None))]
    pub(crate) seed: u64,
}

impl Ways {
    /// Returns the option that says how many are taken up.
    pub(crate) fn word(&self) -> &'static str {
        if self.sample.is_some() { "--sample" } else { "--limit" }
    }

    /// Returns the bounds of a batch that are asked for.
    pub(crate) fn most(&self) -> MostInBatches {
        MostInBatches { requests: self.batch_size, bytes: None, tokens: self.batch_tokens }
    }
}

/// How fast calls may go. `plan` reads it as `run` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Speed {
    /// Have N requests in flight.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, Some(10_000)))]
    pub(crate) concurrency: Option<u32>,
    /// Send at most N requests a minute.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    pub(crate) rpm: Option<u32>,
    /// Send and receive at most about N tokens a minute.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>(1, None))]
    pub(crate) tpm: Option<u32>,
}

/// By which way requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RouteWish {
    /// Whichever is better.
    Auto,
    /// In batches: they cost less, and take up to a day.
    Batch,
    /// By calls: they start to answer at once.
    Realtime,
}

impl RouteWish {
    /// Returns its word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Batch => "batch",
            Self::Realtime => "realtime",
        }
    }
}

impl From<RouteWish> for Asked {
    fn from(wish: RouteWish) -> Self {
        match wish {
            RouteWish::Auto => Self::Auto,
            RouteWish::Batch => Self::Batch,
            RouteWish::Realtime => Self::Realtime,
        }
    }
}

/// What becomes of requests that find no room in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OversizedWish {
    /// They are sent by calls in the same run.
    Realtime,
    /// They wait until the provider's queue has room.
    Wait,
    /// They are not sent, and reported.
    Fail,
}

impl From<OversizedWish> for Oversized {
    fn from(wish: OversizedWish) -> Self {
        match wish {
            OversizedWish::Realtime => Self::Realtime,
            OversizedWish::Wait => Self::Wait,
            OversizedWish::Fail => Self::Fail,
        }
    }
}

/// What to do with requests that may have been sent and have no reply on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InDoubt {
    /// Send them again; they may be billed twice.
    Resend,
    /// Leave them for a person.
    Hold,
}

impl From<InDoubt> for InDoubtPolicy {
    fn from(policy: InDoubt) -> Self {
        match policy {
            InDoubt::Resend => Self::Resend,
            InDoubt::Hold => Self::Hold,
        }
    }
}

/// What is wanted of what is left.
pub(crate) struct Wish<'a> {
    pub(crate) ways: Ways,
    pub(crate) in_doubt: InDoubtPolicy,
    pub(crate) liveness: Liveness,
    /// Given to this command; else the project's.
    pub(crate) base_url: Option<&'a str>,
    /// Whether one request of a new prompt goes ahead of its first batch.
    pub(crate) canary: bool,
    /// What tokens cost.
    pub(crate) prices: &'a PriceBook,
    /// How fast calls may go.
    pub(crate) speed: Speed,
    /// How many of the requests are looked at, and who is told of it.
    pub(crate) look: (Extent, OnLook<'a>),
}

/// Tells nobody.
pub(crate) const QUIETLY: OnLook<'static> = &|_| ();
