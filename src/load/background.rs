//! Work beside the backend's own thread. It does the I/O, decodes and encodes, and reports through a bounded channel.
//!
//! The backend's thread never blocks on the channel. Every event also makes a socket readable, so the backend can wait
//! for that socket, its latch and the postmaster's death at once. Thus it answers a cancel even while S3 is silent.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::io_thread::{IoThread, KeptThread, Task};
use crate::error::{Error, Result};
use crate::s3::reads::Io;

/// Reports events to the backend's thread.
pub struct Events<E> {
    sender: Sender<Result<E>>,
    wake: UnixStream,
    io: Io,
}

impl<E> Events<E> {
    /// Sends one event; waits while the channel is full. Returns `Error::Cancelled` if the receiver is gone.
    pub fn send(&self, event: E) -> Result<()> {
        self.put(Ok(event))
    }

    /// Sends an event or an error. A cancellation ends the wait for room, because a backend that exits takes no events.
    fn put(&self, event: Result<E>) -> Result<()> {
        self.io.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.io.cancel.cancelled() => Err(Error::Cancelled),
                sent = self.sender.send(event) => sent.map_err(|_| Error::Cancelled),
            }
        })?;
        // A full socket is readable already, so a byte that does not fit is not needed.
        let _ = (&self.wake).write(&[1]);
        Ok(())
    }
}

/// Ends the work and its thread from any place, for example from PostgreSQL's exit callback.
#[derive(Clone)]
pub struct Stopper {
    cancel: CancellationToken,
    thread: Arc<Mutex<Option<IoThread>>>,
}

impl Stopper {
    /// Cancels every wait of the work and waits until the thread has ended.
    pub fn stop(&self) {
        if let Some(thread) = self.cancel() {
            thread.end();
        }
    }

    /// Returns whether both end the same work.
    pub fn is(&self, other: &Stopper) -> bool {
        Arc::ptr_eq(&self.thread, &other.thread)
    }

    /// Cancels every wait of the work. Returns the thread unless it was stopped before.
    fn cancel(&self) -> Option<IoThread> {
        self.cancel.cancel();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The backend's handle on the running work.
pub struct Background<E> {
    events: Receiver<Result<E>>,
    wake: UnixStream,
    stopper: Stopper,
    keep: Option<Keep>,
}

/// Where the thread waits for more work, and how long.
#[derive(Clone, Copy)]
pub struct Keep {
    /// The thread of the work before, and later that of this work.
    pub thread: &'static KeptThread,
    /// How long it waits.
    pub idle_timeout: Duration,
}

impl<E: Send + 'static> Background<E> {
    /// Runs `work` on the kept thread, which is kept again if the work ends well, or on a thread of its own. The
    /// channel holds at most `depth` events. The caller must have blocked all signals, because a new thread inherits
    /// the mask.
    pub fn start(
        keep: Option<Keep>,
        depth: usize,
        work: impl FnOnce(&Io, &Events<E>) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let internal = |error: std::io::Error| Error::Internal { why: error.to_string() };
        let (ours, theirs) = UnixStream::pair().map_err(internal)?;
        ours.set_nonblocking(true).map_err(internal)?;
        theirs.set_nonblocking(true).map_err(internal)?;
        let (sender, receiver) = channel(depth);
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let work = move |handle: &Handle| {
            let io = Io::new(handle.clone(), token);
            let events = Events { sender, wake: theirs, io: io.clone() };
            let error = match catch_unwind(AssertUnwindSafe(|| work(&io, &events))) {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error,
                Err(panic) => Error::Internal { why: message_of(&*panic) },
            };
            // After a cancellation there is no receiver, which is no failure.
            let _ = events.put(Err(error));
            false
        };
        let task = |idle_timeout| Task { work: Box::new(work), idle_timeout };
        let thread = match keep {
            Some(Keep { thread, idle_timeout }) => thread.start(task(idle_timeout)),
            None => IoThread::start(task(Duration::ZERO)),
        };
        let thread = thread.map_err(internal)?;
        let stopper = Stopper { cancel, thread: Arc::new(Mutex::new(Some(thread))) };
        Ok(Background { events: receiver, wake: ours, stopper, keep })
    }

    /// Returns the socket that becomes readable when there may be an event.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Returns a handle that ends the work.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Returns the next event, or `None` if there is none yet. Never waits. `Some(Ok(None))` means that the work has
    /// ended.
    pub fn poll(&mut self) -> Option<Result<Option<E>>> {
        let mut drain = [0u8; 64];
        while matches!((&self.wake).read(&mut drain), Ok(read) if read > 0) {}
        match self.events.try_recv() {
            Ok(event) => Some(event.map(Some)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Ok(None)),
        }
    }
}

impl<E> Drop for Background<E> {
    fn drop(&mut self) {
        match (self.stopper.cancel(), self.keep) {
            (Some(thread), Some(keep)) => keep.thread.keep(thread),
            (Some(thread), None) => thread.end(),
            (None, _) => {}
        }
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start<E: Send + 'static>(
        work: impl FnOnce(&Io, &Events<E>) -> Result<()> + Send + 'static,
    ) -> Result<Background<E>> {
        Background::start(None, 1, work)
    }

    /// Waits for the next event, as the backend does, but without a latch.
    fn next<E: Send + 'static>(background: &mut Background<E>) -> Result<Option<E>> {
        loop {
            if let Some(event) = background.poll() {
                return event;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn events_arrive_in_order_and_then_the_end() {
        let mut background = start(|_, events| (0..100).try_for_each(|n| events.send(n))).unwrap();
        for n in 0..100 {
            assert_eq!(next(&mut background), Ok(Some(n)));
        }
        assert_eq!(next(&mut background), Ok(None));
    }

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let mut background = start::<()>(|_, _| panic!("boom")).unwrap();
        assert_eq!(next(&mut background), Err(Error::Internal { why: "boom".into() }));
    }

    #[test]
    fn it_can_be_stopped_from_elsewhere_while_its_events_are_not_taken() {
        let background = start(|_, events| {
            loop {
                events.send(())?;
            }
        });
        background.as_ref().unwrap().stopper().stop();
    }

    #[test]
    fn dropping_it_ends_a_thread_that_waits_for_ever() {
        let background = start::<()>(|io, _| io.wait(std::future::pending())).unwrap();
        drop(background);
        let full = start(|_, events| {
            loop {
                events.send(())?
            }
        })
        .unwrap();
        drop(full);
    }
}
