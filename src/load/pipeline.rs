//! S3 → decode → encode: what runs beside the backend while it inserts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::background::Events;
use crate::decode::{DecodeSettings, FileMeta, TickReader, map_columns, read_footer};
use crate::error::{Error, Result};
use crate::model::options::{Expected, LoadOptions, OnBadRow};
use crate::model::source::{MemorySource, ObjectSource};
use crate::model::tick::Symbols;
use crate::model::uri::S3Uri;
use crate::s3::client::{S3Settings, connect};
use crate::s3::object::{ObjectHead, Reads, S3Object};
use crate::tuple::batch::{EncodedBatch, encode};

/// An object up to this size is fetched by one GET.
const ONE_GET: u64 = 8 << 20;
/// What is fetched from a larger object's end, in the hope that the footer fits.
const TAIL: u64 = 64 << 10;
/// Rows per batch where memory allows; large, because every batch may cost a subtransaction.
const BATCH_ROWS: usize = 65_536;

/// How much a load may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `btc_ingest.memory_limit`, bytes.
    pub memory: u64,
    /// `btc_ingest.max_object_size`, bytes.
    pub object_size: u64,
    /// `btc_ingest.max_kept_rejects`, rows.
    pub kept_rejects: usize,
}

impl Limits {
    /// Bytes per read-ahead window: nine columns hold two each, together an eighth of the memory.
    pub fn window(&self) -> usize {
        (self.memory / 8 / 18).clamp(64 << 10, 4 << 20) as usize
    }

    /// Bytes of ticks per batch: one being inserted, one waiting and one being made fill three eighths.
    fn batch_bytes(&self) -> usize {
        (self.memory / 8) as usize
    }
}

/// One load's orders.
#[derive(Debug, Clone)]
pub struct Job {
    /// The object.
    pub uri: S3Uri,
    /// How to reach it.
    pub s3: S3Settings,
    /// What to make of it.
    pub options: LoadOptions,
    /// What its producer says of it.
    pub expected: Expected,
    /// The etag that is loaded already, if one is.
    pub loaded_etag: Option<String>,
    /// What to do with rows that are no ticks.
    pub on_bad_row: OnBadRow,
    /// What it may take.
    pub limits: Limits,
}

/// What is known of the object once its footer is read.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Size and etag.
    pub head: ObjectHead,
    /// The footer.
    pub meta: Arc<FileMeta>,
}

/// What the load cost beside PostgreSQL.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Bytes fetched.
    pub bytes: u64,
    /// Time spent waiting for S3.
    pub fetch: Duration,
    /// Time spent decoding and encoding.
    pub decode: Duration,
}

/// What the thread tells the backend, in this order.
#[derive(Debug)]
pub enum LoadEvent {
    /// This etag is loaded already; nothing follows.
    AlreadyLoaded(ObjectHead, Cost),
    /// The footer is read and fits.
    Opened(Box<Opened>),
    /// Ticks to insert.
    Batch(Box<EncodedBatch>),
    /// All batches were sent.
    Finished(Cost),
}

/// Fetches, decodes and encodes one object; the work of a `Background` thread.
pub fn run(job: &Job, reads: &Reads, events: &Events<LoadEvent>) -> Result<()> {
    let object = reads.wait(async {
        let connection = connect(&job.s3).await?;
        S3Object::open(connection, job.uri.clone(), reads.clone(), job.limits.window()).await
    })?;
    let head = object.head().clone();
    check_size(&head, job)?;
    if job.loaded_etag.as_ref() == Some(&head.etag) {
        return events.send(LoadEvent::AlreadyLoaded(head, cost(reads, Duration::ZERO)));
    }
    let (source, tail) = open_source(object, job.limits.memory)?;
    if let Some(registered) = &job.expected.sha256 {
        check_digest(&*source, registered)?;
    }

    let mut working = Duration::ZERO;
    let meta = Arc::new(read_footer(&*source, tail, job.limits.memory)?);
    differs("rows", meta.rows(), job.expected.rows)?;
    let mapping = map_columns(&meta, &job.options)?;
    let settings = DecodeSettings {
        memory_limit: job.limits.memory,
        on_bad_row: job.on_bad_row,
        max_kept_rejects: job.limits.kept_rejects,
        max_batch_rows: BATCH_ROWS,
        max_batch_bytes: job.limits.batch_bytes(),
    };
    let mut reader = TickReader::new(source, meta.clone(), mapping, &job.options, settings)?;
    events.send(LoadEvent::Opened(Box::new(Opened { head, meta })))?;

    let mut symbols = Symbols::default();
    let cancelled = || reads.cancel.is_cancelled();
    loop {
        let started = Instant::now();
        let waited = reads.waited_ns.load(Ordering::Relaxed);
        let Some(decoded) = reader.next(&mut symbols, &cancelled)? else { break };
        let mut batch = encode(&decoded.ticks, &symbols);
        batch.rejects = decoded.rejects;
        batch.rejected = decoded.rejected;
        drop(decoded.ticks);
        let waited = reads.waited_ns.load(Ordering::Relaxed) - waited;
        working += started.elapsed().saturating_sub(Duration::from_nanos(waited));
        events.send(LoadEvent::Batch(Box::new(batch)))?;
    }
    events.send(LoadEvent::Finished(cost(reads, working)))
}

/// The object as bytes, and its end where that was fetched on the way.
pub fn open_source(object: S3Object, memory: u64) -> Result<(Arc<dyn ObjectSource>, Option<Bytes>)> {
    let size = object.size();
    if size > ONE_GET.min(memory / 8) {
        return open_end(object);
    }
    if size == 0 {
        return Err(Error::EmptyObject);
    }
    let whole = object.read(0..size)?;
    Ok((Arc::new(MemorySource(whole)), None))
}

/// The object by ranges, and its end: for whoever wants no more than the footer.
pub fn open_end(object: S3Object) -> Result<(Arc<dyn ObjectSource>, Option<Bytes>)> {
    let size = object.size();
    if size == 0 {
        return Err(Error::EmptyObject);
    }
    let tail = object.read(size - TAIL.min(size)..size)?;
    Ok((Arc::new(object), Some(tail)))
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

/// Reads the whole object once more for its digest: only the needed columns are fetched otherwise.
fn check_digest(source: &dyn ObjectSource, registered: &str) -> Result<()> {
    let mut stream = source.stream(0..source.size());
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

fn cost(reads: &Reads, decode: Duration) -> Cost {
    Cost {
        bytes: reads.bytes.load(Ordering::Relaxed),
        fetch: Duration::from_nanos(reads.waited_ns.load(Ordering::Relaxed)),
        decode,
    }
}
