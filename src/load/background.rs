//! A thread of our own beside the backend's: it does the I/O and the arithmetic, and reports through a bounded channel.
//!
//! The backend's thread never blocks on the channel: every event also makes a socket readable, so that it can wait for
//! that socket, its latch and the postmaster's death at once, and answer a cancel while S3 is silent.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::s3::object::Reads;

/// How long the end of a call waits for a name look-up that nothing can interrupt; one that is stuck longer outlives the
/// call, with its signals blocked and nothing of PostgreSQL's in hand.
const SHUTDOWN: Duration = Duration::from_millis(50);

/// Reports events to the backend's thread.
pub struct Events<E> {
    sender: Sender<Result<E>>,
    wake: UnixStream,
    reads: Reads,
}

impl<E> Events<E> {
    /// Hands over one event; waits while the channel is full. `Error::Cancelled` if nobody listens any more.
    pub fn send(&self, event: E) -> Result<()> {
        self.put(Ok(event))
    }

    /// Waiting for room ends with a cancellation, too: at a backend's exit nobody takes events any more.
    fn put(&self, event: Result<E>) -> Result<()> {
        self.reads.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.reads.cancel.cancelled() => Err(Error::Cancelled),
                sent = self.sender.send(event) => sent.map_err(|_| Error::Cancelled),
            }
        })?;
        // A full socket is readable already, so that a byte that does not fit is not missed.
        let _ = (&self.wake).write(&[1]);
        Ok(())
    }
}

/// Ends the thread from anywhere, also from PostgreSQL's exit callback.
#[derive(Clone)]
pub struct Stopper {
    cancel: CancellationToken,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Stopper {
    /// Cancels every wait of the thread and waits until it has ended.
    pub fn stop(&self) {
        self.cancel.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Whether both end the same thread.
    pub fn is(&self, other: &Stopper) -> bool {
        Arc::ptr_eq(&self.thread, &other.thread)
    }
}

/// The running thread, from the backend's side.
pub struct Background<E> {
    events: Receiver<Result<E>>,
    wake: UnixStream,
    stopper: Stopper,
}

impl<E: Send + 'static> Background<E> {
    /// Runs `work` on a new thread, with a runtime of its own for I/O. At most `depth` events wait to be taken.
    /// The caller must have blocked all signals: threads inherit the mask.
    pub fn start(depth: usize, work: impl FnOnce(&Reads, &Events<E>) -> Result<()> + Send + 'static) -> Result<Self> {
        let internal = |error: std::io::Error| Error::Internal { why: error.to_string() };
        let (ours, theirs) = UnixStream::pair().map_err(internal)?;
        ours.set_nonblocking(true).map_err(internal)?;
        theirs.set_nonblocking(true).map_err(internal)?;
        let (sender, receiver) = channel(depth);
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let thread = std::thread::Builder::new()
            .name("btc_ingest".into())
            .spawn(move || {
                with_runtime(token, |reads| {
                    let events = Events { sender, wake: theirs, reads: reads.clone() };
                    let error = match catch_unwind(AssertUnwindSafe(|| work(reads, &events))) {
                        Ok(Ok(())) => return,
                        Ok(Err(error)) => error,
                        Err(panic) => Error::Internal { why: words_of(&*panic) },
                    };
                    // Nobody listens after a cancellation.
                    let _ = events.put(Err(error));
                });
            })
            .map_err(internal)?;
        let stopper = Stopper { cancel, thread: Arc::new(Mutex::new(Some(thread))) };
        Ok(Background { events: receiver, wake: ours, stopper })
    }

    /// Readable when there may be an event.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Ends the thread from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The next event if there is one; never waits. `Ok(None)` inside: the thread has ended.
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
        self.stopper.stop();
    }
}

/// Runs `work` with a runtime for its I/O. Without one it does not run, and the channel closes without an event.
fn with_runtime(cancel: CancellationToken, work: impl FnOnce(&Reads)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .thread_name("btc_ingest s3")
        .enable_all()
        .build();
    if let Ok(runtime) = runtime {
        work(&Reads::new(runtime.handle().clone(), cancel));
        runtime.shutdown_timeout(SHUTDOWN);
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits as the backend does, without a latch.
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
        let mut background = Background::start(1, |_, events| (0..100).try_for_each(|n| events.send(n))).unwrap();
        for n in 0..100 {
            assert_eq!(next(&mut background), Ok(Some(n)));
        }
        assert_eq!(next(&mut background), Ok(None));
    }

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let mut background = Background::<()>::start(1, |_, _| panic!("boom")).unwrap();
        assert_eq!(next(&mut background), Err(Error::Internal { why: "boom".into() }));
    }

    #[test]
    fn it_can_be_stopped_from_elsewhere_while_nobody_takes_its_events() {
        let background = Background::start(1, |_, events| {
            loop {
                events.send(())?;
            }
        });
        background.as_ref().unwrap().stopper().stop();
    }

    #[test]
    fn dropping_it_ends_a_thread_that_waits_for_ever() {
        let background = Background::<()>::start(1, |reads, _| reads.wait(std::future::pending())).unwrap();
        drop(background);
        let full = Background::start(1, |_, events| {
            loop {
                events.send(())?
            }
        })
        .unwrap();
        drop(full);
    }
}
