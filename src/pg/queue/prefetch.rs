//! The prefetcher of a worker: a thread that reads the planned objects one after another, while the backend
//! stores an earlier one.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::error::{Error, Result};
use crate::load::pipeline::{Job, LoadEvent};
use crate::load::prefetch;
use crate::pg::load::one::DEPTH;
use crate::pg::session::ffi::Thread;

/// A thread that reads objects in the order in which they are added.
pub struct Prefetcher {
    thread: Thread<LoadEvent>,
    jobs: UnboundedSender<Job>,
}

impl Prefetcher {
    /// Starts the thread with these objects.
    pub fn start(jobs: impl IntoIterator<Item = Job>) -> Result<Self> {
        let (sender, receiver) = unbounded_channel();
        let thread = Thread::start(DEPTH, move |io, events| prefetch::run(receiver, io, events))?;
        let prefetcher = Prefetcher { thread, jobs: sender };
        jobs.into_iter().try_for_each(|job| prefetcher.add(job))?;
        Ok(prefetcher)
    }

    /// Adds an object that is read after the others.
    pub fn add(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| Error::Internal { why: "the reading thread has ended".into() })
    }

    /// Returns the thread, which sends the events of its objects one object after another.
    pub fn thread(&mut self) -> &mut Thread<LoadEvent> {
        &mut self.thread
    }
}
