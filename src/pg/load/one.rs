//! One load in one transaction: it locks the object, reads what is registered, stores the batches and
//! records the result.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::events::{self, First, Read};
use super::known::{Known, Version};
use super::offsets::Offsets;
use super::plan::{LoadPlan, allowed_uri};
use super::record::{LoadResult, ObjectRecord};
use super::sink::Sink;
use super::slices::SliceKey;
use crate::error::Result;
use crate::load::pipeline::{self, Cost, Job, LoadEvent, Opened};
use crate::load::windows::Windows;
use crate::model::options::{self, OnBadRow, OnConflict};
use crate::model::report::{LoadReport, Outcome};
use crate::model::uri::S3Uri;
use crate::pg::session::ffi::{self, Thread};
use crate::pg::session::guc;
use crate::pg::session::shared::{Phase, Progress};
use crate::pg::session::target::{Target, as_owner};
use crate::pg::windows::embed::{StoredSlice, embed_slices};
use crate::s3::head::ObjectHead;
use crate::tuple::batch::SliceRun;

/// Batches that may wait for the backend: one waits while another is encoded and a third is stored.
pub const DEPTH: usize = 1;

/// The arguments of `load_s3_slice`.
pub struct Request<'a> {
    /// The object.
    pub uri: &'a str,
    /// `abort` or `reject`.
    pub on_bad_row: &'a str,
    /// Whether the object is read although its etag is loaded already.
    pub force: bool,
    /// The call's options.
    pub options: Value,
}

/// What the caller of a load says about it.
struct Terms<'a> {
    /// What to do with bad rows. `None` stands for what the last load of the object has done.
    on_bad_row: Option<OnBadRow>,
    /// What to do with conflicts. `None` stands for what is registered of the object.
    on_conflict: Option<OnConflict>,
    /// The slice that is stored if the version was loaded before. `None` stands for all of them.
    only: Option<&'a SliceKey>,
    /// Whether ticks of ranges that retention has dropped are stored all the same.
    forced: bool,
    started: Instant,
}

/// What every step of a load needs.
struct Load<'a> {
    target: &'a Target,
    record: &'a ObjectRecord,
    job: &'a Job,
    known: &'a Known,
    /// What was registered before the object's bytes were asked for.
    version: &'a Version,
    terms: Terms<'a>,
}

/// Loads one object in the caller's transaction.
pub fn load(request: &Request<'_>) -> Result<LoadReport> {
    let started = Instant::now();
    let uri = allowed_uri(request.uri)?;
    let on_bad_row = request.on_bad_row.parse()?;
    // The options are checked before the database is touched, and resolved with the registered metadata below.
    let (told, _) = options::resolve(&request.options, &[])?;
    let says = request.options.get("on_conflict").is_some_and(|value| !value.is_null());
    let terms = Terms {
        on_bad_row: Some(on_bad_row),
        on_conflict: says.then_some(told.on_conflict),
        only: None,
        forced: request.force,
        started,
    };
    load_by_call(&uri, &request.options, request.force, terms)
}

/// Loads an object again in the caller's transaction, as its last load has done. If its version is still the same,
/// only the ticks of one slice are stored.
pub fn load_again(uri: &str, only: &SliceKey) -> Result<LoadReport> {
    let started = Instant::now();
    let terms = Terms { on_bad_row: None, on_conflict: None, only: Some(only), forced: true, started };
    load_by_call(&allowed_uri(uri)?, &json!({}), true, terms)
}

fn load_by_call(uri: &S3Uri, options: &Value, force: bool, terms: Terms<'_>) -> Result<LoadReport> {
    as_owner(|client, target| {
        target.must_have_key()?;
        let record = ObjectRecord::lock(uri)?;
        let known = record.known(client)?;
        let (options, expected) = options::resolve(options, &known.metadata)?;
        let job = Job {
            uri: uri.clone(),
            s3: guc::s3(),
            loaded_etag: known.loaded_etag(&options).filter(|_| !force),
            options,
            expected,
            on_bad_row: terms.on_bad_row.unwrap_or_else(|| known.on_bad_row()),
            limits: guc::limits(),
            listed: known.listed(),
            embed: guc::embed_on_load(),
        };
        let mut thread = read(&job)?;
        let version = &known.version;
        let load = Load { target, record: &record, job: &job, known: &known, version, terms };
        load.run(client, &mut thread, |client, result| record.record(client, result))
    })
}

/// The result of a planned load.
pub enum PlannedLoad {
    /// The object is loaded, or was loaded already.
    Loaded(LoadReport),
    /// Another session is loading the object.
    Busy,
    /// The object was loaded or registered again since the load was planned. The next claim sees its new state.
    Changed,
}

/// Starts to read the object, in the thread that the session has kept of its last load if it has.
pub fn read(job: &Job) -> Result<Thread<LoadEvent>> {
    let job = job.clone();
    Thread::start_kept(guc::s3_idle_timeout(), DEPTH, move |io, events| pipeline::run(&job, io, events))
}

/// Loads a planned object, whose events come from `thread`. The caller has the privileges of the tables'
/// owner. Waits for no offset: those that another session has locked are added to `left`.
pub fn load_planned(
    client: &mut SpiClient<'_>,
    target: &Target,
    plan: &LoadPlan,
    thread: &mut Thread<LoadEvent>,
    left: &mut Offsets,
) -> Result<PlannedLoad> {
    let started = Instant::now();
    let LoadPlan { job, version, .. } = plan;
    Target::check_version(client)?;
    let Some(record) = ObjectRecord::lock_if_free(&job.uri)? else { return Ok(PlannedLoad::Busy) };
    let known = record.known(client)?;
    // A call of load_s3_slice takes no claim, so it may have loaded the object meanwhile.
    if known.version.generation != version.generation {
        return Ok(PlannedLoad::Changed);
    }
    let terms = Terms { on_bad_row: Some(job.on_bad_row), on_conflict: None, only: None, forced: false, started };
    let load = Load { target, record: &record, job, known: &known, version, terms };
    load.run(client, thread, |client, result| record.record_without_waiting(client, result, left))
        .map(PlannedLoad::Loaded)
}

impl Load<'_> {
    /// Stores what the thread reads and calls `record` with the result.
    fn run(
        &self,
        client: &mut SpiClient<'_>,
        thread: &mut Thread<LoadEvent>,
        record: impl FnOnce(&mut SpiClient<'_>, &LoadResult<'_>) -> Result<()>,
    ) -> Result<LoadReport> {
        let progress = Progress::begin(&self.job.uri.to_string(), Phase::Opening);
        let report = match events::first(thread, self.known)? {
            First::AlreadyLoaded(head, cost) => {
                let report = already_loaded(self.job, head, cost, self.terms.started);
                self.record.mark_loaded(client, self.version)?;
                self.record.record_history(client, &report)?;
                report
            }
            First::Opened(opened) => self.store(client, thread, &opened, &progress, record)?,
        };
        guc::log_load(&format!("btc_ingest: {report}"));
        Ok(report)
    }

    fn store(
        &self,
        client: &mut SpiClient<'_>,
        thread: &mut Thread<LoadEvent>,
        opened: &Opened,
        progress: &Progress,
        record: impl FnOnce(&mut SpiClient<'_>, &LoadResult<'_>) -> Result<()>,
    ) -> Result<LoadReport> {
        progress.show(|load| {
            load.size = opened.head.size as i64;
            load.rows = opened.rows as i64;
            load.phase = Phase::Storing;
        });
        let etag = &opened.head.etag;
        let options = &self.job.options;
        let on_conflict = self.terms.on_conflict.unwrap_or_else(|| self.known.on_conflict(etag, options));
        let only = self.terms.only.filter(|_| self.known.was_loaded(etag, options));
        // The rejected rows of other slices stay.
        if self.known.may_have_rejects() && only.is_none() {
            self.record.forget_rejects(client, &opened.head)?;
        }
        allow_decompression();
        let mut sink =
            Sink::new(self.target, self.job, opened, on_conflict, only)?.refusing_dropped(!self.terms.forced);
        let Read { cost, storing, windows } = events::batches(thread, |batch| {
            let rows = (batch.rows.len() as u64 + batch.rejected) as i64;
            sink.store(client, batch)?;
            progress.show(|load| load.read += rows);
            Ok(())
        })?;
        progress.show(|load| load.phase = Phase::Recording);
        let began = Instant::now();
        let mut report = report_of(self.job, opened, &cost);
        sink.finish(&mut report)?;
        // A backfill in mode chunk has stored these ticks before, so the load finds them as duplicates of themselves.
        let staged = self.known.rows_staged(&report.etag).min(report.duplicate);
        report.inserted += staged;
        report.duplicate -= staged;
        report.insert_ms = ms(storing + began.elapsed());
        report.elapsed_ms = ms(self.terms.started.elapsed());
        let slices = sink.slices();
        let result = LoadResult { options, on_conflict, opened, slices, report: &report, version: self.version };
        if only.is_some() {
            self.record.record_slice_again(client, &result)?;
        } else {
            record(client, &result)?;
        }
        if guc::embed_on_load() {
            embed_slices(client, self.target, slices.iter().map(|slice| stored(slice, &windows)))?;
        }
        Ok(report)
    }
}

/// Describes a slice for its vector. That of the thread counts if the load has stored all of its ticks.
fn stored<'a>(((bucket, asset), run): (&'a SliceKey, &'a SliceRun), windows: &'a Windows) -> StoredSlice<'a> {
    let new = run.duplicates == 0 && run.conflicts == 0;
    let made = windows.get(&(*bucket, run.symbol.clone())).filter(|made| new && made.ticks == run.len as i64);
    StoredSlice { bucket: *bucket, asset, ids: (run.first_id, run.last_id), has_all: run.ids.missing() == 0, made }
}

/// Returns a report with what the reading thread knows.
pub fn report_of(job: &Job, opened: &Opened, cost: &Cost) -> LoadReport {
    LoadReport {
        uri: job.uri.to_string(),
        etag: opened.head.etag.clone(),
        read: opened.rows as i64,
        bytes: cost.bytes as i64,
        fetch_ms: ms(cost.fetch),
        decode_ms: ms(cost.decode),
        ..LoadReport::default()
    }
}

/// Returns the report of an object that is loaded already.
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

/// Converts to milliseconds with three decimals.
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Lifts TimescaleDB's limit of tuples that one statement may decompress, until the transaction ends. A late or
/// replaced object may touch every batch of a compressed chunk, and would fail at each attempt.
fn allow_decompression() {
    const LIMIT: &CStr = c"timescaledb.max_tuples_decompressed_per_dml_transaction";
    if ffi::setting(LIMIT).is_some_and(|limit| limit != "0") {
        ffi::set_local(LIMIT, c"0");
    }
}
