//! What processes know of each other before anything commits: which workers run, which objects are being
//! loaded, and the last error of a worker. Without preload there is no shared memory; the functions then
//! find nothing and change nothing.

use std::cell::Cell;

use pgrx::{PgXactCallbackEvent, pg_sys};

use super::ffi::{self, Load, Text, Worker};
pub use super::ffi::{LastError, Phase, Role};

/// Registers this process as a worker until the value is dropped or the process ends.
pub struct Presence(());

impl Presence {
    /// Registers this process. If all places are taken, no view shows it.
    pub fn enter(role: Role) -> Presence {
        let (pid, database) = (ffi::my_pid(), ffi::current_database().to_u32());
        let gone = gone(ffi::shared(|state| state.workers.each_ref().map(|worker| worker.pid)));
        ffi::shared_mut(|state| {
            if let Some(place) = state.workers.iter_mut().find(|worker| gone.contains(&worker.pid)) {
                *place = Worker { pid, database, role };
            }
        });
        // A FATAL error does not unwind, so `drop` would not run.
        ffi::at_exit(leave);
        Presence(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        leave();
    }
}

/// Returns the pids of processes that have ended, and 0 for free places. Looking a pid up takes a lock of
/// PostgreSQL's, so the caller does not hold the lock of the shared state.
fn gone<const N: usize>(pids: Option<[i32; N]>) -> Vec<i32> {
    pids.into_iter().flatten().filter(|pid| !ffi::is_alive(*pid)).collect()
}

/// Removes this process from the list and wakes the other workers: one of them starts a successor if one is
/// needed, as the process that started this one may have ended.
fn leave() {
    let pid = ffi::my_pid();
    let others = ffi::shared_mut(|state| {
        state.workers.iter_mut().filter(|worker| worker.pid == pid).for_each(|worker| *worker = Worker::NONE);
        state.wakes += 1;
        state.workers.each_ref().map(|worker| worker.pid)
    });
    others.into_iter().flatten().filter(|pid| *pid != 0).for_each(ffi::set_latch);
}

/// Returns whether a worker with this role runs in a database.
pub fn is_there(database: pg_sys::Oid, role: Role) -> bool {
    workers(database).iter().any(|(other, _)| *other == role)
}

/// Returns role and pid of the workers that run in a database.
pub fn workers(database: pg_sys::Oid) -> Vec<(Role, i32)> {
    let found = ffi::shared(|state| {
        let own = state.workers.iter().filter(|worker| worker.pid != 0 && worker.database == database.to_u32());
        own.map(|worker| (worker.role, worker.pid)).collect::<Vec<_>>()
    });
    let mut found = found.unwrap_or_default();
    found.retain(|(_, pid)| ffi::is_alive(*pid));
    found
}

/// Returns how often workers have been woken. A worker that looks for work, finds none and sees this number
/// changed must look again: any wait in between could have reset its latch.
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

/// A load or a listing of this process that the view `progress` shows, until it is dropped.
pub struct Progress {
    place: Option<usize>,
}

impl Progress {
    /// Shows a load, or the listing of a prefix. If all places are taken, it is not shown.
    pub fn begin(uri: &str, phase: Phase) -> Progress {
        let now = ffi::now();
        let load = Load {
            pid: ffi::my_pid(),
            database: ffi::current_database().to_u32(),
            uri: Text::new(uri),
            started: now,
            moved: now,
            phase,
            ..Load::NONE
        };
        let gone = gone(ffi::shared(|state| state.loads.each_ref().map(|load| load.pid)));
        let place = ffi::shared_mut(|state| {
            let place = state.loads.iter().position(|load| gone.contains(&load.pid))?;
            state.loads[place] = load;
            Some(place)
        });
        Progress { place: place.flatten() }
    }

    /// Changes what is shown.
    pub fn show(&self, change: impl FnOnce(&mut Load)) {
        if let Some(place) = self.place {
            let now = ffi::now();
            ffi::shared_mut(|state| {
                change(&mut state.loads[place]);
                state.loads[place].moved = now;
            });
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show(|load| *load = Load::NONE);
    }
}

/// Returns the loads and listings of this database that are running.
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

/// Remembers an error of a worker of this database as the last one.
pub fn note_error(sqlstate: &str, message: &str) {
    let last_error = LastError {
        at: ffi::now(),
        database: ffi::current_database().to_u32(),
        sqlstate: Text::new(sqlstate),
        message: Text::new(message),
    };
    ffi::shared_mut(|state| state.last_error = last_error);
}

/// Returns the last error of a worker of this database since the server started.
pub fn last_error() -> Option<LastError> {
    let database = ffi::current_database().to_u32();
    ffi::shared(|state| state.last_error).filter(|error| error.at != 0 && error.database == database)
}
