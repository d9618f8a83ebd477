//! The reading thread of a worker, from the backend's side.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::error::{Error, Result};
use crate::load::pipeline::{Job, LoadEvent};
use crate::load::series;
use crate::pg::ffi;

/// Batches that may wait for the backend.
const DEPTH: usize = 1;

/// A thread that loads one object after another, in the order in which it is told.
pub struct Series {
    thread: ffi::Thread<LoadEvent>,
    orders: UnboundedSender<Job>,
}

impl Series {
    /// Starts with these objects.
    pub fn start(jobs: impl IntoIterator<Item = Job>) -> Result<Self> {
        let (orders, receiver) = unbounded_channel();
        let thread = ffi::Thread::start(DEPTH, move |reads, events| series::run(receiver, reads, events))?;
        let series = Series { thread, orders };
        jobs.into_iter().try_for_each(|job| series.order(job))?;
        Ok(series)
    }

    /// One more object.
    pub fn order(&self, job: Job) -> Result<()> {
        self.orders.send(job).map_err(|_| Error::Internal { why: "the reading thread is gone".into() })
    }

    /// Where its events come from.
    pub fn thread(&mut self) -> &mut ffi::Thread<LoadEvent> {
        &mut self.thread
    }
}
