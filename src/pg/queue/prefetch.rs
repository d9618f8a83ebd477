//! The reading thread of a worker, from the backend's side: it reads planned objects ahead, one after another.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::error::{Error, Result};
use crate::load::pipeline::{Job, LoadEvent};
use crate::load::prefetch;
use crate::pg::load::one::DEPTH;
use crate::pg::session::ffi::Thread;

/// A thread that reads objects in the order in which it is told.
pub struct Prefetcher {
    thread: Thread<LoadEvent>,
    jobs: UnboundedSender<Job>,
}

impl Prefetcher {
    /// Starts with these objects.
    pub fn start(jobs: impl IntoIterator<Item = Job>) -> Result<Self> {
        let (sender, receiver) = unbounded_channel();
        let thread = Thread::start(DEPTH, move |io, events| prefetch::run(receiver, io, events))?;
        let prefetcher = Prefetcher { thread, jobs: sender };
        jobs.into_iter().try_for_each(|job| prefetcher.add(job))?;
        Ok(prefetcher)
    }

    /// Adds an object behind the others.
    pub fn add(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| Error::Internal { why: "the reading thread has ended".into() })
    }

    /// Returns the thread, from which the objects' events come.
    pub fn thread(&mut self) -> &mut Thread<LoadEvent> {
        &mut self.thread
    }
}
