//! To be written.

pub mod prices;
