//! What every part of `pg` stands on: the C API, statements, settings, locks, processes and the guard of
//! the tables.

pub mod ffi;
pub mod guc;
pub mod lock_room;
pub mod lock_waits;
pub mod locks;
pub mod processes;
pub mod report;
pub mod shared;
pub mod spi;
pub mod target;
pub mod time;
pub mod tx;
