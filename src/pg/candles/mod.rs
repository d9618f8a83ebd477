//! Candles: making and dropping them, and keeping those of the Community edition current.

pub mod beside;
pub mod commands;
pub mod refresh;
pub mod rounds;
