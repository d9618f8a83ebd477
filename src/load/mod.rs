//! One load beside PostgreSQL: threads that fetch, decode and encode, and what they tell the thread that inserts.

pub mod background;
pub mod footers;
pub mod inspect;
pub mod listing;
pub mod pace;
pub mod pipeline;
pub mod probe;
pub mod series;
