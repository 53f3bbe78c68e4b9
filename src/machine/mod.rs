//! Pure decisions: values in, values out.
//!
//! Nothing here reads a clock, touches a file or a socket, or is async; time and randomness are
//! handed in. What must be right at 3 a.m. is decided here, where it can be tested by the million.

pub mod answer_check;
pub mod batch;
pub mod budget;
pub mod closest;
pub mod forecast;
pub mod pace;
pub mod packing;
pub mod plan;
pub mod polling;
pub mod prices;
pub mod queue;
pub mod render;
pub mod replay;
pub mod request;
pub mod retry;
pub mod route;
pub mod sample;
pub mod stop;
pub mod tokens;
