//! `overnight retry`.

use super::Context;
use super::failure::{Exit, Failure};

/// .
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::error("to be written"))
}
