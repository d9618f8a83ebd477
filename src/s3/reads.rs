//! The I/O context that all reads of a load share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// The runtime, the cancellation and the counters of a load's reads.
#[derive(Debug, Clone)]
pub struct Io {
    /// The runtime that does the I/O.
    pub handle: Handle,
    /// Cancels every wait.
    pub cancel: CancellationToken,
    /// Bytes fetched.
    pub bytes: Arc<AtomicU64>,
    /// Nanoseconds that the reading thread waited for S3.
    pub waited_ns: Arc<AtomicU64>,
}

impl Io {
    /// Makes a context with counters at zero.
    pub fn new(handle: Handle, cancel: CancellationToken) -> Self {
        Io { handle, cancel, bytes: Arc::default(), waited_ns: Arc::default() }
    }

    /// Makes a context with the same runtime and cancellation but its own counters, for another object.
    pub fn fresh(&self) -> Self {
        Self::new(self.handle.clone(), self.cancel.clone())
    }

    /// Runs `work` on the runtime and blocks until it ends. Returns `Error::Cancelled` at once after a cancellation.
    pub fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let result = self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err(Error::Cancelled),
                result = work => result,
            }
        });
        self.waited_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }
}
