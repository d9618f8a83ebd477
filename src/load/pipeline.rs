//! Fetch, decode, encode: the steps of one load that run beside the backend while it inserts.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::background::Events;
use super::windows::{WindowMaker, Windows};
use crate::decode::{DecodeSettings, FileMeta, TickReader, map_columns, read_footer};
use crate::error::{Error, Result};
use crate::model::options::{Expected, LoadOptions, OnBadRow};
use crate::model::source::{MemorySource, ObjectSource, Part};
use crate::model::tick::Symbols;
use crate::model::time_range::TimeRange;
use crate::model::uri::S3Uri;
use crate::s3::client::{Connection, connect};
use crate::s3::config::S3Settings;
use crate::s3::head::ObjectHead;
use crate::s3::object::{Begun, Fetching, S3Object};
use crate::s3::reads::Io;
use crate::tuple::batch::{EncodedBatch, encode};
use crate::tuple::pool::BufferPool;

/// An object up to this size is fetched by one GET.
const ONE_GET: u64 = 8 << 20;
/// The bytes that the first GET asks for if nothing is known of the object. A usual object is smaller.
const FIRST_GET: u64 = 1 << 20;
/// The bytes that are fetched from a larger object's end. Most footers are smaller.
const TAIL: u64 = 64 << 10;
/// Rows per batch if memory allows. A batch is large because it may cost a subtransaction.
const BATCH_ROWS: usize = 65_536;
/// Rows of the first batch, for which the backend waits.
const FIRST_BATCH_ROWS: usize = 2048;
/// How long a connection serves the loads that follow. Files of AWS's configuration may be written anew meanwhile.
const REUSED: Duration = Duration::from_secs(60);

/// The limits of a load.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `btc_ingest.memory_limit`, bytes.
    pub memory: u64,
    /// `btc_ingest.max_object_size`, bytes.
    pub object_size: u64,
    /// `btc_ingest.max_kept_rejects`, rows.
    pub kept_rejects: usize,
    /// The plausible times, by `btc_ingest.min_time` and `btc_ingest.max_time_ahead`.
    pub times: TimeRange,
    /// `btc_ingest.time_skew_limit`, microseconds.
    pub time_skew: i64,
}

impl Limits {
    /// Returns the bytes of small objects that may be prefetched at once.
    pub fn prefetch_bytes(&self) -> u64 {
        self.memory / 8
    }

    /// Returns the bytes of a large object that may be fetched in advance. With `OnBadRow::Reject`, pages get one of
    /// these eighths.
    fn read_ahead(&self, on_bad_row: OnBadRow) -> u64 {
        self.memory / 8 * if on_bad_row == OnBadRow::Reject { 1 } else { 2 }
    }

    /// Returns the bytes of ticks per batch. Three batches exist at once (inserted, waiting, being made); together they
    /// take three eighths of the memory.
    fn batch_bytes(&self) -> usize {
        (self.memory / 8) as usize
    }
}

/// The description of one load.
#[derive(Debug, Clone)]
pub struct Job {
    /// The object.
    pub uri: S3Uri,
    /// The settings of the connection.
    pub s3: S3Settings,
    /// The options of the load.
    pub options: LoadOptions,
    /// The producer's metadata, which the object must match.
    pub expected: Expected,
    /// The etag that is loaded already, if one is.
    pub loaded_etag: Option<String>,
    /// What to do with rows that are no ticks.
    pub on_bad_row: OnBadRow,
    /// The limits of the load.
    pub limits: Limits,
    /// Size and etag from a listing or the registry. If they are known, no HEAD is sent.
    pub listed: Option<ObjectHead>,
    /// Whether the vectors of the slices are made.
    pub embed: bool,
}

impl Job {
    /// Returns the object at the version of `head`.
    pub fn object(&self, connection: &Connection, head: ObjectHead, io: &Io) -> S3Object {
        S3Object::at(connection.clone(), self.uri.clone(), head, io.clone(), self.limits.read_ahead(self.on_bad_row))
    }

    /// Returns the object's size if it is known and one GET can fetch the whole object.
    pub fn small(&self) -> Option<u64> {
        let size = self.listed.as_ref().map(|head| head.size)?;
        (size > 0 && size <= one_get(self.limits.memory)).then_some(size)
    }
}

/// Size and etag of an object, and what its footer says. The footer itself stays in the thread, and is dropped before
/// the next object's footer is read.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Size and etag.
    pub head: ObjectHead,
    /// Rows in the file.
    pub rows: u64,
    /// The library that wrote the file, if the file names it, fit to be stored.
    pub writer: Option<String>,
    /// The fingerprint of the schema.
    pub fingerprint: String,
}

/// The cost of a load, without PostgreSQL's part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Bytes fetched.
    pub bytes: u64,
    /// The time that decoding waited for S3.
    pub fetch: Duration,
    /// The time of decoding and encoding.
    pub decode: Duration,
}

/// The thread's events to the backend, in this order.
#[derive(Debug)]
pub enum LoadEvent {
    /// This etag is loaded already; nothing follows.
    AlreadyLoaded(ObjectHead, Cost),
    /// The footer is read, and its columns fit a tick's.
    Opened(Box<Opened>),
    /// Ticks to insert.
    Batch(Box<EncodedBatch>),
    /// The vectors of slices; only if the job asks for them.
    Windows(Box<Windows>),
    /// All batches were sent.
    Finished(Cost),
    /// The load of this object failed. Only a [`super::prefetch`] sends this event, and continues with the next object.
    Failed(Error),
}

/// The object at the uri.
enum Found {
    /// This version is loaded already.
    Loaded(ObjectHead),
    /// Its bytes, and its last bytes if they were fetched already.
    Open(ObjectHead, Arc<dyn ObjectSource>, Option<Bytes>),
}

/// Fetches, decodes and encodes one object. This is the work of a `Background` thread.
pub fn run(job: &Job, io: &Io, events: &Events<LoadEvent>) -> Result<()> {
    static LAST: Mutex<Option<(Connection, Instant)>> = Mutex::new(None);
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let usable = |(connection, made): &(Connection, Instant)| connection.settings == job.s3 && made.elapsed() < REUSED;
    let known = last().take().filter(usable);
    let (connection, made) = match known {
        Some((connection, made)) => (io.wait(async { Ok(connection.reused().await) })?, made),
        None => (io.wait(connect(&job.s3))?, Instant::now()),
    };
    load(job, &connection, None, &BufferPool::default(), io, events)?;
    // After an error, the next load reads AWS's configuration again.
    *last() = Some((connection, made));
    Ok(())
}

/// Fetches, decodes and encodes one object over an open connection. `prefetched` is the prefetch of a small object's
/// listed version; `pool` is the memory of earlier batches.
pub fn load(
    job: &Job,
    connection: &Connection,
    prefetched: Option<Fetching>,
    pool: &BufferPool,
    io: &Io,
    events: &Events<LoadEvent>,
) -> Result<()> {
    let (head, source, tail) = match find(job, connection, prefetched, io)? {
        Found::Loaded(head) => return events.send(LoadEvent::AlreadyLoaded(head, cost(io, Duration::ZERO))),
        Found::Open(head, source, tail) => (head, source, tail),
    };
    if let Some(registered) = &job.expected.sha256 {
        check_digest(&*source, registered)?;
    }

    let mut working = Duration::ZERO;
    let (meta, mut reader) = reader(job, &*source, tail)?;
    let (rows, writer, fingerprint) = (meta.rows(), meta.shown_writer(), meta.fingerprint());
    drop(meta);
    events.send(LoadEvent::Opened(Box::new(Opened { head, rows, writer, fingerprint })))?;

    let mut symbols = Symbols::default();
    let cancelled = || io.cancel.is_cancelled();
    let mut windows = job.embed.then(|| WindowMaker::new(job.limits.memory));
    loop {
        let started = Instant::now();
        let waited = io.waited_ns.load(Ordering::Relaxed);
        let Some(decoded) = reader.next(&mut symbols, &cancelled)? else { break };
        let mut batch = encode(&decoded.ticks, &symbols, pool, job.limits.time_skew);
        batch.rejects = decoded.rejects;
        batch.rejected = decoded.rejected;
        if let Some(windows) = &mut windows {
            windows.add(&decoded.ticks, &symbols);
        }
        drop(decoded.ticks);
        let waited = io.waited_ns.load(Ordering::Relaxed) - waited;
        working += started.elapsed().saturating_sub(Duration::from_nanos(waited));
        events.send(LoadEvent::Batch(Box::new(batch)))?;
    }
    if let Some(windows) = windows {
        events.send(LoadEvent::Windows(Box::new(windows.finish())))?;
    }
    events.send(LoadEvent::Finished(cost(io, working)))
}

/// Opens the current version of an object, whichever is loaded, and returns it with a reader of its ticks.
pub fn open_ticks(job: &Job, connection: &Connection, io: &Io) -> Result<(ObjectHead, TickReader)> {
    let job = Job { loaded_etag: None, listed: None, ..job.clone() };
    match find(&job, connection, None, io)? {
        Found::Open(head, source, tail) => Ok((head, reader(&job, &*source, tail)?.1)),
        Found::Loaded(_) => Err(Error::Internal { why: "an object was not opened".into() }),
    }
}

/// Reads the footer and returns it with a reader of the ticks.
fn reader(job: &Job, source: &dyn ObjectSource, tail: Option<Bytes>) -> Result<(Arc<FileMeta>, TickReader)> {
    let meta = Arc::new(read_footer(source, tail, job.limits.memory)?);
    differs("rows", meta.rows(), job.expected.rows)?;
    let mapping = map_columns(&meta, &job.options)?;
    let settings = DecodeSettings {
        memory_limit: job.limits.memory,
        on_bad_row: job.on_bad_row,
        times: job.limits.times,
        max_kept_rejects: job.limits.kept_rejects,
        max_batch_rows: BATCH_ROWS,
        first_batch_rows: FIRST_BATCH_ROWS,
        max_batch_bytes: job.limits.batch_bytes(),
    };
    let reader = TickReader::new(source, meta.clone(), mapping, &job.options, settings)?;
    Ok((meta, reader))
}

fn find(job: &Job, connection: &Connection, prefetched: Option<Fetching>, io: &Io) -> Result<Found> {
    if let Some(head) = &job.listed {
        match open(job, connection, head.clone(), prefetched, io) {
            // The object was replaced after it was listed. The current version is loaded.
            Err(Error::ObjectChanged { .. } | Error::MetadataMismatch { .. }) => {}
            found => return found,
        }
    }
    // If no etag can end the load, the first request fetches bytes, too.
    if job.loaded_etag.is_none()
        && let Some(begun) = io.wait(S3Object::begin(connection, &job.uri, first_get(job.limits.memory)))?
    {
        return open_begun(job, connection, begun, io);
    }
    let head = io.wait(S3Object::head_of(connection, &job.uri))?;
    open(job, connection, head, None, io)
}

/// Opens an object from the answer to the first GET. Of a large object that answer's body is not read.
fn open_begun(job: &Job, connection: &Connection, begun: Begun, io: &Io) -> Result<Found> {
    let (head, len) = (begun.head.clone(), begun.len);
    check_size(&head, job)?;
    if head.size > one_get(job.limits.memory) {
        drop(begun);
        return open(job, connection, head, None, io);
    }
    let object = job.object(connection, head.clone(), io);
    let first = object.read_begun(begun)?;
    let whole = if len == head.size { first } else { Bytes::from([first, object.read(len..head.size)?].concat()) };
    Ok(Found::Open(head, Arc::new(MemorySource(whole)), None))
}

fn open(job: &Job, connection: &Connection, head: ObjectHead, prefetched: Option<Fetching>, io: &Io) -> Result<Found> {
    check_size(&head, job)?;
    if job.loaded_etag.as_ref() == Some(&head.etag) {
        return Ok(Found::Loaded(head));
    }
    if let Some(prefetched) = prefetched {
        let source = MemorySource(prefetched.wait(io)?);
        return Ok(Found::Open(head, Arc::new(source), None));
    }
    let object = job.object(connection, head.clone(), io);
    let (source, tail) = open_source(object, job.limits.memory)?;
    Ok(Found::Open(head, source, tail))
}

/// Returns the object as a source of bytes, and its last bytes if they were fetched already.
fn open_source(object: S3Object, memory: u64) -> Result<(Arc<dyn ObjectSource>, Option<Bytes>)> {
    let size = object.size();
    if size > one_get(memory) {
        return open_end(object);
    }
    if size == 0 {
        return Err(Error::EmptyObject);
    }
    let whole = object.read(0..size)?;
    Ok((Arc::new(MemorySource(whole)), None))
}

/// Returns the object as a source that reads ranges, and its last bytes. Reading a footer needs no more.
pub fn open_end(object: S3Object) -> Result<(Arc<dyn ObjectSource>, Option<Bytes>)> {
    let size = object.size();
    if size == 0 {
        return Err(Error::EmptyObject);
    }
    let tail = object.read(tail_of(size))?;
    Ok((Arc::new(object), Some(tail)))
}

/// Returns the range that probably holds the footer of an object of this size.
pub fn tail_of(size: u64) -> std::ops::Range<u64> {
    size - TAIL.min(size)..size
}

/// Returns the size up to which an object is fetched as a whole. The prefetch's share of the memory limits it.
fn one_get(memory: u64) -> u64 {
    ONE_GET.min(memory / 8)
}

/// Returns the bytes that the first GET asks for.
fn first_get(memory: u64) -> u64 {
    FIRST_GET.min(one_get(memory))
}

fn check_size(head: &ObjectHead, job: &Job) -> Result<()> {
    differs("object_size_bytes", head.size, job.expected.object_size_bytes)?;
    if head.size > job.limits.object_size {
        return Err(Error::ObjectTooLarge { size: head.size, limit: job.limits.object_size });
    }
    Ok(())
}

fn differs(what: &'static str, found: u64, registered: Option<u64>) -> Result<()> {
    match registered {
        Some(registered) if registered != found => {
            Err(Error::MetadataMismatch { what, found: found.to_string(), registered: registered.to_string() })
        }
        _ => Ok(()),
    }
}

/// Compares the object's digest. This reads the whole object once more, because a load fetches the needed columns only.
fn check_digest(source: &dyn ObjectSource, registered: &str) -> Result<()> {
    let whole = Part { range: 0..source.size(), head: 0 };
    let mut streams = source.streams(vec![vec![whole]]).flatten();
    let Some(mut stream) = streams.next() else { return Ok(()) };
    let mut digest = Sha256::new();
    while stream.remaining() > 0 {
        let len = stream.remaining().min(1 << 20) as usize;
        digest.update(&stream.take(len)?);
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != registered {
        return Err(Error::MetadataMismatch { what: "sha256", found, registered: registered.into() });
    }
    Ok(())
}

fn cost(io: &Io, decode: Duration) -> Cost {
    Cost {
        bytes: io.bytes.load(Ordering::Relaxed),
        fetch: Duration::from_nanos(io.waited_ns.load(Ordering::Relaxed)),
        decode,
    }
}
