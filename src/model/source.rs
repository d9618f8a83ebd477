//! An object as a source of bytes. `s3::stream` implements it over the network; [`MemorySource`] serves tests and
//! small objects that one GET has fetched as a whole.

use std::ops::Range;

use bytes::Bytes;

use crate::error::{Error, Result};

/// One version of one object. Reads block the calling thread, so a PostgreSQL backend's own thread must not call them.
pub trait ObjectSource: Send + Sync {
    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Reads one contiguous piece into memory. The range must lie within the object.
    fn read(&self, range: Range<u64>) -> Result<Bytes>;

    /// Streams parts of the object: the groups one after another, the parts of one group side by side. What follows is
    /// fetched in advance, within the source's memory. Nothing is fetched before the first group is asked for.
    fn streams(&self, groups: Vec<Vec<Part>>) -> Groups;
}

/// A part of an object that is read in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its bytes.
    pub range: Range<u64>,
    /// Bytes at its beginning that are needed before the first row, as a dictionary is.
    pub head: u64,
}

/// The streams of each group. Those of earlier groups must not be read any more once the next group was asked for.
pub type Groups = Box<dyn Iterator<Item = Vec<Box<dyn ByteStream>>> + Send>;

/// The bytes of a range, consumed from the front.
pub trait ByteStream: Send {
    /// Returns the number of bytes that are not consumed yet.
    fn remaining(&self) -> u64;

    /// Returns the next `len` bytes without consuming them. Returns fewer only if the range ends before.
    fn peek(&mut self, len: usize) -> Result<Bytes>;

    /// Consumes exactly `len` bytes. Returns `Error::Truncated` if fewer remain.
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

    fn streams(&self, groups: Vec<Vec<Part>>) -> Groups {
        let bytes = self.0.clone();
        let stream = move |part: Part| -> Box<dyn ByteStream> {
            Box::new(MemoryStream(bytes.slice(part.range.start as usize..part.range.end as usize)))
        };
        Box::new(groups.into_iter().map(move |parts| parts.into_iter().map(&stream).collect()))
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

/// Returns the error for consuming more than remains.
pub fn past_the_end(wanted: usize, remaining: u64) -> Error {
    Error::Truncated { why: format!("{wanted} bytes are needed where only {remaining} remain.") }
}
