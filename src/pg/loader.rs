//! One load in the caller's transaction: guard, claim, stream batches into the sink, book the result.

use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;
use serde_json::Value;

use super::registry::{Booking, Known, Offsets, Registry, Seen};
use super::shared::{Phase, Progress};
use super::sink::Sink;
use super::target::{Target, as_owner};
use super::{ffi, guc};
use crate::error::{Error, Result};
use crate::load::pipeline::{self, Cost, Job, Limits, LoadEvent, Opened};
use crate::model::options::{self, OnBadRow};
use crate::model::report::{LoadReport, Outcome};
use crate::model::uri::S3Uri;
use crate::s3::object::ObjectHead;

/// Batches that may wait for the backend: one waits, one is being made, one is being inserted.
const DEPTH: usize = 1;

/// What `load_s3_slice` was called with.
pub struct Request<'a> {
    /// The object.
    pub uri: &'a str,
    /// `abort` or `reject`.
    pub on_bad_row: &'a str,
    /// Read it even if this etag is loaded already.
    pub force: bool,
    /// The call's options.
    pub options: Value,
}

impl<'a> Request<'a> {
    /// Read it again, whatever is loaded, with the options that are remembered.
    pub fn again(uri: &'a str) -> Self {
        Request { uri, on_bad_row: "abort", force: true, options: serde_json::json!({}) }
    }
}

/// Parses a uri and refuses it outside `btc_ingest.allowed_prefixes`, before any network use.
pub fn allowed_uri(text: &str) -> Result<S3Uri> {
    let uri: S3Uri = text.parse()?;
    if !guc::allowed_prefixes()?.allow(&uri) {
        return Err(Error::UriNotAllowed { allowed: guc::allowed_prefixes_text() });
    }
    Ok(uri)
}

/// Loads one object.
pub fn load(request: &Request<'_>) -> Result<LoadReport> {
    let started = Instant::now();
    let uri = allowed_uri(request.uri)?;
    let on_bad_row: OnBadRow = request.on_bad_row.parse()?;
    // Checked before the database is touched; resolved with the registered metadata below.
    options::resolve(&request.options, &[])?;

    as_owner(|client, target| {
        let mut registry = Registry::open(&uri)?;
        let known = registry.known(client)?;
        let (options, expected) = options::resolve(&request.options, &known.metadata)?;
        let job = Job {
            uri: uri.clone(),
            s3: guc::s3(),
            loaded_etag: known.loaded_etag(&options).filter(|_| !request.force),
            options,
            expected,
            on_bad_row,
            limits: guc::limits(),
            listed: known.listed(),
        };
        let orders = job.clone();
        let mut thread = ffi::Thread::start(DEPTH, move |reads, events| pipeline::run(&orders, reads, events))?;
        store(client, target, &mut registry, &job, &known, &known.seen, &mut thread, started, None)
    })
}

/// An object that is read ahead.
#[derive(Debug, Clone)]
pub struct Order {
    /// What the thread is told.
    pub job: Job,
    /// What was registered before its bytes were asked for.
    pub seen: Seen,
}

/// What a worker orders ahead of the load itself: an object of the queue, read with half of the memory, because the next
/// one is on its way meanwhile.
pub fn order(client: &mut SpiClient<'_>, uri: &str) -> Result<Order> {
    let uri = allowed_uri(uri)?;
    let known = Registry::peek(client, &uri)?;
    let (options, expected) = options::resolve(&serde_json::json!({}), &known.metadata)?;
    let limits = guc::limits();
    let job = Job {
        uri,
        s3: guc::s3(),
        loaded_etag: known.loaded_etag(&options),
        options,
        expected,
        on_bad_row: OnBadRow::Abort,
        limits: Limits { memory: limits.memory / 2, ..limits },
        listed: known.listed(),
    };
    Ok(Order { job, seen: known.seen })
}

/// What became of an ordered object.
pub enum Became {
    /// It is loaded, or was before it was ordered.
    Loaded(LoadReport),
    /// Somebody else is loading it at this moment.
    Busy,
    /// It was loaded or registered anew since it was ordered: whoever claims it next sees what is there now.
    Changed,
}

/// Loads an ordered object by a thread of its own. `offsets`: those that somebody else has locked are left there.
pub fn load_order(order: &Order, offsets: &mut Offsets) -> Result<Became> {
    let job = order.job.clone();
    let mut thread = ffi::Thread::start(DEPTH, move |reads, events| pipeline::run(&job, reads, events))?;
    load_ordered(order, &mut thread, offsets)
}

/// Loads an object that was ordered from `thread`.
pub fn load_ordered(order: &Order, thread: &mut ffi::Thread<LoadEvent>, offsets: &mut Offsets) -> Result<Became> {
    let started = Instant::now();
    let Order { job, seen } = order;
    as_owner(|client, target| {
        let Some(mut registry) = Registry::open_if_free(&job.uri)? else { return Ok(Became::Busy) };
        let known = registry.known(client)?;
        // A call of load_s3_slice asks for no claim.
        if known.seen.generation != seen.generation {
            return Ok(Became::Changed);
        }
        let offsets = Some(offsets);
        store(client, target, &mut registry, job, &known, seen, thread, started, offsets).map(Became::Loaded)
    })
}

/// Takes an object's events from the thread that reads it, and stores what they hold. `offsets`: of a worker or a sweep,
/// which does not wait for those that are locked.
#[allow(clippy::too_many_arguments)]
fn store(
    client: &mut SpiClient<'_>,
    target: &Target,
    registry: &mut Registry,
    job: &Job,
    known: &Known,
    seen: &Seen,
    thread: &mut ffi::Thread<LoadEvent>,
    started: Instant,
    offsets: Option<&mut Offsets>,
) -> Result<LoadReport> {
    let progress = Progress::begin(&job.uri.to_string());
    let opened = match thread.next()? {
        Some(LoadEvent::AlreadyLoaded(head, cost)) => {
            known.check_registered_size(head.size)?;
            registry.mark_loaded(client, seen)?;
            let report = already_loaded(job, head, cost, started);
            registry.book_history(client, &report)?;
            log(&report);
            return Ok(report);
        }
        Some(LoadEvent::Opened(opened)) => *opened,
        other => return Err(unexpected(other)),
    };
    known.check_registered_size(opened.head.size)?;

    progress.show(|load| {
        load.size = opened.head.size as i64;
        load.rows = opened.meta.rows() as i64;
        load.phase = Phase::Storing;
    });
    let mut sink = Sink::new(target, job, &opened);
    let mut inserting = Duration::ZERO;
    if known.may_have_rejects() {
        registry.forget_rejects(client, &opened.head)?;
    }
    let cost = loop {
        match thread.next()? {
            Some(LoadEvent::Batch(mut batch)) => {
                let began = Instant::now();
                let rows = (batch.rows.len() as u64 + batch.rejected) as i64;
                sink.store(client, &mut batch)?;
                inserting += began.elapsed();
                progress.show(|load| load.read += rows);
            }
            Some(LoadEvent::Finished(cost)) => break cost,
            other => return Err(unexpected(other)),
        }
    };
    progress.show(|load| load.phase = Phase::Booking);
    let began = Instant::now();
    let mut report = report_of(job, &opened, &cost);
    sink.finish(&mut report)?;
    // Ticks that came with a whole chunk were found again as duplicates of themselves.
    let staged = known.staged(&report.etag).min(report.duplicate);
    report.inserted += staged;
    report.duplicate -= staged;
    report.insert_ms = ms(inserting + began.elapsed());
    report.elapsed_ms = ms(started.elapsed());
    let booking = Booking { options: &job.options, opened: &opened, slices: sink.slices(), report: &report, seen };
    match offsets {
        Some(offsets) => registry.book_at_once(client, &booking, offsets)?,
        None => registry.book(client, &booking)?,
    }
    log(&report);
    Ok(report)
}

/// One line for the server's log.
fn log(report: &LoadReport) {
    guc::log_load(&format!("btc_ingest: {report}"));
}

/// A report with what the reading thread knows.
pub fn report_of(job: &Job, opened: &Opened, cost: &Cost) -> LoadReport {
    LoadReport {
        uri: job.uri.to_string(),
        etag: opened.head.etag.clone(),
        read: opened.meta.rows() as i64,
        bytes: cost.bytes as i64,
        fetch_ms: ms(cost.fetch),
        decode_ms: ms(cost.decode),
        ..LoadReport::default()
    }
}

/// The report of an object that needs no loading.
pub fn already_loaded(job: &Job, head: ObjectHead, cost: Cost, started: Instant) -> LoadReport {
    LoadReport {
        uri: job.uri.to_string(),
        etag: head.etag,
        bytes: cost.bytes as i64,
        fetch_ms: ms(cost.fetch),
        elapsed_ms: ms(started.elapsed()),
        outcome: Outcome::AlreadyLoaded,
        ..LoadReport::default()
    }
}

/// An event that ends a load too early.
pub fn unexpected(event: Option<LoadEvent>) -> Error {
    match event {
        Some(LoadEvent::Failed(error)) => error,
        _ => Error::Internal { why: "the reading thread ended without a result".into() },
    }
}

/// Milliseconds with three decimals.
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
