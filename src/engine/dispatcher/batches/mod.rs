//! Batches, from a request's place in one to the last line of its results.
//!
//! ```text
//!  places ──▶ steps ──commit──▶ one call ──▶ outcomes ──▶ … ──▶ results ──▶ what is due again is fed again
//! ```
//!
//! A step is ordered, committed, taken, and what came of it is committed before the next one. What a
//! step that failed may have done at the provider is looked for there, and never guessed.

mod outcomes;
mod places;
mod results;
mod steps;
