//! What the shared memory holds: plain data without pointers.

use std::fmt;

/// Places for workers of all databases.
const WORKERS: usize = 128;
/// Places for loads that are shown at the same time.
const LOADS: usize = 256;

/// Everything in the shared memory.
#[derive(Clone, Copy)]
pub struct State {
    /// Workers of all databases.
    pub workers: [Worker; WORKERS],
    /// Loads that are running.
    pub loads: [Load; LOADS],
    /// The last error of a worker.
    pub last_error: LastError,
    /// How often workers have been woken.
    pub wakes: u64,
}

impl State {
    /// The state when the server has just started.
    pub const EMPTY: State = State {
        workers: [Worker::NONE; WORKERS],
        loads: [Load::NONE; LOADS],
        last_error: LastError { at: 0, database: 0, sqlstate: Text::EMPTY, message: Text::EMPTY },
        wakes: 0,
    };
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It keeps the scheduler running.
    Launcher,
    /// It keeps the loaders running, lists watched prefixes and prunes the history.
    Scheduler,
    /// It loads registered objects. The field is its number.
    Loader(i32),
    /// It loads the objects of a backfill.
    Backfill,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Launcher => f.write_str("launcher"),
            Role::Scheduler => f.write_str("scheduler"),
            Role::Loader(slot) => write!(f, "loader {slot}"),
            Role::Backfill => f.write_str("backfill"),
        }
    }
}

/// One worker.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// 0 if the place is free.
    pub pid: i32,
    /// Oid of its database.
    pub database: u32,
    /// What it does.
    pub role: Role,
}

impl Worker {
    /// A free place.
    pub const NONE: Worker = Worker { pid: 0, database: 0, role: Role::Launcher };
}

/// One load or one listing that is running.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// 0 if the place is free.
    pub pid: i32,
    /// Oid of its database.
    pub database: u32,
    /// The object, or the prefix that is listed.
    pub uri: Text<512>,
    /// Microseconds since 2000.
    pub started: i64,
    /// Size of the object in bytes; 0 until it is known.
    pub size: i64,
    /// Rows of the object; 0 until its footer is read.
    pub rows: i64,
    /// Rows that the backend has processed, or keys that were listed.
    pub read: i64,
    /// What the load is doing.
    pub phase: Phase,
    /// When any of this last changed, in microseconds since 2000.
    pub moved: i64,
}

impl Load {
    /// A free place.
    pub const NONE: Load = Load {
        pid: 0,
        database: 0,
        uri: Text::EMPTY,
        started: 0,
        size: 0,
        rows: 0,
        read: 0,
        phase: Phase::Opening,
        moved: 0,
    };
}

/// What a load is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A prefix is listed; nothing is loaded.
    Listing,
    /// It asks S3 for the object and reads the footer.
    Opening,
    /// It stores ticks.
    Storing,
    /// It records the result.
    Recording,
}

impl Phase {
    /// Returns the name that the view `progress` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Listing => "listing",
            Phase::Opening => "opening",
            Phase::Storing => "storing",
            Phase::Recording => "result",
        }
    }
}

/// The last error of a worker.
#[derive(Debug, Clone, Copy)]
pub struct LastError {
    /// Microseconds since 2000; 0 if there was none.
    pub at: i64,
    /// Oid of its database.
    pub database: u32,
    /// Its SQLSTATE.
    pub sqlstate: Text<5>,
    /// Its message.
    pub message: Text<512>,
}

/// Text of at most `N` bytes; longer text is cut.
#[derive(Debug, Clone, Copy)]
pub struct Text<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Text { len: 0, bytes: [0; N] };

    /// Copies a text, cut at a character boundary.
    pub fn new(text: &str) -> Self {
        let len = text.floor_char_boundary(N);
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Text { len, bytes }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}
