//! An object as bytes, whoever fetches them: `s3::reader` over the network, [`MemorySource`] in tests and for small
//! objects that came in one piece.

use std::ops::Range;

use bytes::Bytes;

use crate::error::{Error, Result};

/// One version of one object. Reads block the calling thread, never a PostgreSQL backend's own.
pub trait ObjectSource: Send + Sync {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// One contiguous piece, in memory at once. The range lies within the object.
    fn read(&self, range: Range<u64>) -> Result<Bytes>;

    /// The bytes of `range` in order, fetched ahead in windows so that memory stays bounded.
    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream>;
}

/// The bytes of a range, taken from the front.
pub trait ByteStream: Send {
    /// Bytes not yet taken.
    fn remaining(&self) -> u64;

    /// The next `len` bytes without taking them; fewer only where the range ends.
    fn peek(&mut self, len: usize) -> Result<Bytes>;

    /// Takes exactly `len` bytes; `Error::Truncated` if fewer remain.
    fn take(&mut self, len: usize) -> Result<Bytes>;
}

/// An object that is in memory as a whole.
#[derive(Debug, Clone)]
pub struct MemorySource(pub Bytes);

impl ObjectSource for MemorySource {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        Ok(self.0.slice(range.start as usize..range.end as usize))
    }

    fn stream(&self, range: Range<u64>) -> Box<dyn ByteStream> {
        Box::new(MemoryStream(self.0.slice(range.start as usize..range.end as usize)))
    }
}

struct MemoryStream(Bytes);

impl ByteStream for MemoryStream {
    fn remaining(&self) -> u64 {
        self.0.len() as u64
    }

    fn peek(&mut self, len: usize) -> Result<Bytes> {
        Ok(self.0.slice(..len.min(self.0.len())))
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len > self.0.len() {
            return Err(past_the_end(len, self.remaining()));
        }
        Ok(self.0.split_to(len))
    }
}

/// The error for taking more than there is.
pub fn past_the_end(wanted: usize, remaining: u64) -> Error {
    Error::Truncated { why: format!("{wanted} bytes are needed where only {remaining} remain.") }
}
