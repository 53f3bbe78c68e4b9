//! Pure decisions: values in, values out; no I/O, no clock, no async.

pub mod answer_check;
pub mod closest;
pub mod render;
