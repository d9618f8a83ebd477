//! The part of a load that runs beside PostgreSQL: threads that fetch, decode and encode, and the events that they send
//! to the backend's thread, which inserts.

pub mod background;
pub mod compare;
pub mod footers;
pub mod heads;
pub mod inspect;
pub mod io_thread;
pub mod listing;
pub mod pipeline;
pub mod prefetch;
pub mod prefetch_depth;
pub mod probe;
pub mod reach;
pub mod windows;
