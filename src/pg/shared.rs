//! What processes know of each other at once, before anything commits: which workers there are, what everybody is loading, and
//! the last trouble. Without preload there is none of it, and whatever uses it does without.

use std::cell::Cell;
use std::fmt;

use pgrx::{PgXactCallbackEvent, pg_sys};

use super::ffi;

/// Workers of all databases.
const WORKERS: usize = 128;
/// Loads at the same time.
const LOADS: usize = 256;

/// All of it.
#[derive(Clone, Copy)]
pub struct State {
    workers: [Worker; WORKERS],
    loads: [Load; LOADS],
    trouble: Trouble,
    /// How often workers were woken.
    wakes: u64,
}

impl State {
    /// Of a server that has just been started.
    pub const EMPTY: State = State {
        workers: [Worker::NONE; WORKERS],
        loads: [Load::NONE; LOADS],
        trouble: Trouble { at: 0, database: 0, sqlstate: Text::EMPTY, message: Text::EMPTY },
        wakes: 0,
    };
}

/// What a worker is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Keeps the scheduler running.
    Launcher,
    /// Keeps the loaders running, discovers, prunes.
    Scheduler,
    /// Loads; its number.
    Loader(i32),
    /// Loads what a backfill has registered.
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

#[derive(Clone, Copy)]
struct Worker {
    /// 0: the place is free.
    pid: i32,
    database: u32,
    role: Role,
}

impl Worker {
    const NONE: Worker = Worker { pid: 0, database: 0, role: Role::Launcher };
}

/// One load in work.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// 0: the place is free.
    pub pid: i32,
    database: u32,
    /// The object.
    pub uri: Text<512>,
    /// Microseconds since 2000.
    pub started: i64,
    /// Size of the object; 0 until it is known.
    pub size: i64,
    /// Rows of the object; 0 until its footer is read.
    pub rows: i64,
    /// Rows that went through the backend.
    pub read: i64,
    /// What it is doing.
    pub phase: Phase,
}

impl Load {
    const NONE: Load =
        Load { pid: 0, database: 0, uri: Text::EMPTY, started: 0, size: 0, rows: 0, read: 0, phase: Phase::Opening };
}

/// What a load is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asks S3, reads the footer.
    Opening,
    /// Stores ticks.
    Storing,
    /// Writes what is to be known of it.
    Booking,
}

impl Phase {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Opening => "opening",
            Phase::Storing => "storing",
            Phase::Booking => "booking",
        }
    }
}

/// The last thing that went wrong in a worker.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// Microseconds since 2000; 0: nothing has.
    pub at: i64,
    database: u32,
    /// Five characters.
    pub sqlstate: Text<5>,
    /// For people.
    pub message: Text<512>,
}

/// Text of at most `N` bytes; what is longer is cut.
#[derive(Debug, Clone, Copy)]
pub struct Text<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    const EMPTY: Self = Text { len: 0, bytes: [0; N] };

    fn new(text: &str) -> Self {
        let len = text.floor_char_boundary(N);
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Text { len, bytes }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// This process as a worker, until it is dropped or the process ends.
pub struct Presence(());

impl Presence {
    /// Enters this process.
    pub fn enter(role: Role) -> Presence {
        let (pid, database) = (ffi::my_pid(), ffi::current_database().to_u32());
        ffi::shared_mut(|state| {
            if let Some(place) = state.workers.iter_mut().find(|worker| !ffi::is_alive(worker.pid)) {
                *place = Worker { pid, database, role };
            }
        });
        // FATAL errors do not unwind.
        ffi::at_exit(leave);
        Presence(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        leave();
    }
}

/// Takes this process off the list. The others look whether somebody is to come in its place: whoever has started it may be gone,
/// and the postmaster tells nobody else.
fn leave() {
    let pid = ffi::my_pid();
    let others = ffi::shared_mut(|state| {
        state.workers.iter_mut().filter(|worker| worker.pid == pid).for_each(|worker| *worker = Worker::NONE);
        state.wakes += 1;
        state.workers.map(|worker| worker.pid)
    });
    others.into_iter().flatten().filter(|pid| *pid != 0).for_each(ffi::set_latch);
}

/// Whether a worker is there, whoever has started it.
pub fn is_there(database: pg_sys::Oid, role: Role) -> bool {
    workers(database).iter().any(|(other, _)| *other == role)
}

/// Workers of a database that are there, with their pids.
pub fn workers(database: pg_sys::Oid) -> Vec<(Role, i32)> {
    let found = ffi::shared(|state| {
        let own = state.workers.iter().filter(|worker| worker.pid != 0 && worker.database == database.to_u32());
        own.map(|worker| (worker.role, worker.pid)).collect::<Vec<_>>()
    });
    let mut found = found.unwrap_or_default();
    found.retain(|(_, pid)| ffi::is_alive(*pid));
    found
}

/// How often workers were woken so far: whoever looks for work, finds none, and sees the number changed must look again. A latch
/// alone could have been reset by any wait in between.
pub fn wakes() -> u64 {
    ffi::shared(|state| state.wakes).unwrap_or(0)
}

/// Wakes the workers of this database.
pub fn wake() {
    ffi::shared_mut(|state| state.wakes += 1);
    for (_, pid) in workers(ffi::current_database()) {
        ffi::set_latch(pid);
    }
}

/// Wakes the workers of this database when the transaction commits, so that they see what it did.
pub fn wake_at_commit() {
    if !WAKING.replace(true) {
        pgrx::register_xact_callback(PgXactCallbackEvent::Commit, || {
            WAKING.set(false);
            wake();
        });
        pgrx::register_xact_callback(PgXactCallbackEvent::Abort, || WAKING.set(false));
    }
}

thread_local! {
    /// Whether this transaction wakes the workers already.
    static WAKING: Cell<bool> = const { Cell::new(false) };
}

/// A load of this process that others can watch, until dropped.
pub struct Progress {
    place: Option<usize>,
}

impl Progress {
    /// Begins; where there is no room the load is not shown.
    pub fn begin(uri: &str) -> Progress {
        let load = Load {
            pid: ffi::my_pid(),
            database: ffi::current_database().to_u32(),
            uri: Text::new(uri),
            started: ffi::now(),
            ..Load::NONE
        };
        let place = ffi::shared_mut(|state| {
            let place = state.loads.iter().position(|load| !ffi::is_alive(load.pid))?;
            state.loads[place] = load;
            Some(place)
        });
        Progress { place: place.flatten() }
    }

    /// Changes what is shown.
    pub fn show(&self, change: impl FnOnce(&mut Load)) {
        if let Some(place) = self.place {
            ffi::shared_mut(|state| change(&mut state.loads[place]));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show(|load| *load = Load::NONE);
    }
}

/// Loads of this database that are in work.
pub fn loads() -> Vec<Load> {
    let database = ffi::current_database().to_u32();
    let found = ffi::shared(|state| {
        let own = state.loads.iter().filter(|load| load.pid != 0 && load.database == database);
        own.copied().collect::<Vec<_>>()
    });
    let mut found = found.unwrap_or_default();
    found.retain(|load| ffi::is_alive(load.pid));
    found
}

/// Remembers what went wrong in a worker of this database.
pub fn note_trouble(sqlstate: &str, message: &str) {
    let trouble = Trouble {
        at: ffi::now(),
        database: ffi::current_database().to_u32(),
        sqlstate: Text::new(sqlstate),
        message: Text::new(message),
    };
    ffi::shared_mut(|state| state.trouble = trouble);
}

/// The last thing that went wrong in a worker of this database, since the server was started.
pub fn trouble() -> Option<Trouble> {
    let database = ffi::current_database().to_u32();
    ffi::shared(|state| state.trouble).filter(|trouble| trouble.at != 0 && trouble.database == database)
}
