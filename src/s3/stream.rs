//! A range of an object in order. One window is prefetched, so that decoding seldom waits and memory stays bounded.

use std::ops::Range;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::object::S3Object;
use super::reads::Io;
use crate::error::{Error, Result};
use crate::model::source::{ByteStream, ObjectSource, past_the_end};

impl ObjectSource for S3Object {
    fn size(&self) -> u64 {
        self.head().size
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.io.wait(self.fetch(range))
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream> {
        Box::new(RangeStream::start(self.clone(), self.io.clone(), range, self.window))
    }
}

/// The window that is read and the window that is being fetched.
pub struct RangeStream {
    object: S3Object,
    io: Io,
    window: usize,
    ready: Bytes,
    coming: Option<JoinHandle<Result<Bytes>>>,
    /// The part that is neither ready nor coming.
    rest: Range<u64>,
    coming_len: u64,
}

impl RangeStream {
    /// Starts to fetch at once.
    pub fn start(object: S3Object, io: Io, range: Range<u64>, window: usize) -> Self {
        let mut stream =
            RangeStream { object, io, window, ready: Bytes::new(), coming: None, rest: range, coming_len: 0 };
        stream.prefetch();
        stream
    }

    fn prefetch(&mut self) {
        let len = (self.rest.end - self.rest.start).min(self.window as u64);
        if len == 0 {
            return;
        }
        let range = self.rest.start..self.rest.start + len;
        self.rest.start = range.end;
        self.coming_len = len;
        let object = self.object.clone();
        self.coming = Some(self.io.handle.spawn(async move { object.fetch(range).await }));
    }

    /// Waits until `len` bytes are ready, or all bytes that remain.
    fn fill(&mut self, len: usize) -> Result<()> {
        if self.ready.len() >= len || self.coming.is_none() {
            return Ok(());
        }
        let mut windows = vec![std::mem::take(&mut self.ready)];
        let mut have = windows[0].len();
        while have < len {
            let Some(mut coming) = self.coming.take() else { break };
            let window = self.io.wait(async {
                (&mut coming).await.unwrap_or_else(|error| Err(Error::Internal { why: error.to_string() }))
            });
            // A cancelled wait leaves the fetch running, and it must not outlive the load.
            let window = window.inspect_err(|_| coming.abort())?;
            self.coming_len = 0;
            self.prefetch();
            have += window.len();
            windows.push(window);
        }
        self.ready = match windows.iter().filter(|window| !window.is_empty()).count() {
            1 => windows.into_iter().find(|window| !window.is_empty()).unwrap_or_default(),
            _ => Bytes::from(windows.concat()),
        };
        Ok(())
    }
}

impl ByteStream for RangeStream {
    fn remaining(&self) -> u64 {
        self.ready.len() as u64 + self.coming_len + (self.rest.end - self.rest.start)
    }

    fn peek(&mut self, len: usize) -> Result<Bytes> {
        self.fill(len)?;
        Ok(self.ready.slice(..len.min(self.ready.len())))
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len as u64 > self.remaining() {
            return Err(past_the_end(len, self.remaining()));
        }
        self.fill(len)?;
        if len > self.ready.len() {
            return Err(past_the_end(len, self.ready.len() as u64));
        }
        Ok(self.ready.split_to(len))
    }
}

impl Drop for RangeStream {
    fn drop(&mut self) {
        if let Some(coming) = self.coming.take() {
            coming.abort();
        }
    }
}
