//! What is written beside the ticks: object, slices, registry rows, offsets, history and rejected rows.

use std::collections::BTreeMap;

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::sink::Slices;
use super::{ffi, spi};
use crate::error::{Error, Result};
use crate::load::pipeline::Opened;
use crate::model::bucket::POSTGRES_EPOCH_US;
use crate::model::options::LoadOptions;
use crate::model::report::LoadReport;
use crate::model::uri::S3Uri;
use crate::s3::object::ObjectHead;

/// What the advisory locks on objects begin with.
const LOCK: &str = "btc_ingest.object:";

/// One object's rows, claimed for one load.
pub struct Registry {
    uri: S3Uri,
    text: String,
    started: TimestampWithTimeZone,
}

/// What was registered of an object when somebody looked. Whatever is registered later is of a version that he has not seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Of the object's row; `None`: there was none.
    pub generation: Option<i64>,
    /// Versions (xmin) of its registry rows; `None`: whatever they are.
    pub rows: Option<Vec<String>>,
}

/// What was registered of the object before this load.
pub struct Known {
    /// Which rows these are.
    pub seen: Seen,
    /// Metadata and options, strongest first: the object's, then its registry rows' in key order.
    pub metadata: Vec<Value>,
    loaded: Option<(String, Value)>,
    listed: Option<ObjectHead>,
    staged: i64,
    registered_sizes: Vec<u64>,
}

impl Known {
    /// The etag that is loaded with these options already.
    pub fn loaded_etag(&self, options: &LoadOptions) -> Option<String> {
        self.loaded.as_ref().filter(|(_, shape)| *shape == options.shape()).map(|(etag, _)| etag.clone())
    }

    /// Size and etag of a version that was listed and never loaded: S3 need not be asked for them again.
    pub fn listed(&self) -> Option<ObjectHead> {
        self.listed.clone()
    }

    /// Rows of this version that whole chunks have brought already.
    pub fn staged(&self, etag: &str) -> i64 {
        if self.listed.as_ref().is_some_and(|listed| listed.etag == etag) { self.staged } else { 0 }
    }

    /// Whether an earlier load may have kept rows that it could not store.
    pub fn may_have_rejects(&self) -> bool {
        self.loaded.is_some() || self.staged > 0
    }

    /// A size that a producer wrote into the registry must be the object's.
    pub fn check_registered_size(&self, size: u64) -> Result<()> {
        match self.registered_sizes.iter().find(|registered| **registered != size) {
            Some(registered) => Err(Error::MetadataMismatch {
                what: "object_size_bytes",
                found: size.to_string(),
                registered: registered.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// What a finished load leaves behind.
pub struct Booking<'a> {
    /// How it was done.
    pub options: &'a LoadOptions,
    /// Head and footer.
    pub opened: &'a Opened,
    /// What went into which slice.
    pub slices: &'a Slices,
    /// Counts and times.
    pub report: &'a LoadReport,
    /// What was registered before its bytes were asked for.
    pub seen: &'a Seen,
}

impl Registry {
    /// Claims the object until the transaction ends. An advisory lock, not a row lock: that would block a producer's
    /// upsert for the length of the load.
    pub fn open(uri: &S3Uri) -> Result<Registry> {
        let registry = Self::new(uri)?;
        ffi::lock_in_transaction(ffi::lock_key(LOCK, &registry.text));
        Ok(registry)
    }

    /// The same for whoever has other work to do: `None` if somebody else has claimed it.
    pub fn open_if_free(uri: &S3Uri) -> Result<Option<Registry>> {
        let registry = Self::new(uri)?;
        Ok(ffi::try_lock_in_transaction(ffi::lock_key(LOCK, &registry.text)).then_some(registry))
    }

    /// What is registered of an object that nobody has claimed.
    pub fn peek(client: &mut SpiClient<'_>, uri: &S3Uri) -> Result<Known> {
        Self::new(uri)?.known(client)
    }

    /// Of an object that the caller sees to nobody else touching.
    pub fn new(uri: &S3Uri) -> Result<Registry> {
        let now = ffi::now();
        let started = TimestampWithTimeZone::try_from(now)
            .map_err(|_| Error::Internal { why: format!("{now} is no time that PostgreSQL can hold") })?;
        Ok(Registry { uri: uri.clone(), text: uri.to_string(), started })
    }

    /// Reads what is registered. A statement of its own after the lock, so that it sees what the lock's last holder did.
    pub fn known(&self, client: &mut SpiClient<'_>) -> Result<Known> {
        let found = spi::json_kept(client, include_str!("../../sql/queries/known.sql"), &[self.text.clone().into()])?;
        let object = &found["object"];
        let mut metadata = vec![object["options"].clone(), object["metadata"].clone()];
        let mut registered_sizes = Vec::new();
        let mut rows = Vec::new();
        for row in found["registry"].as_array().into_iter().flatten() {
            metadata.push(row["metadata"].clone());
            registered_sizes.extend(row["pending_size"].as_u64());
            rows.extend(row["version"].as_str().map(str::to_owned));
        }
        // Whatever its status: an object that was registered again is pending, and loaded all the same if its etag is.
        let loaded = object["etag"].as_str().map(|etag| (etag.to_owned(), object["options"].clone()));
        let listed = object["listed_etag"].as_str().zip(object["listed_size"].as_u64());
        let listed = listed.map(|(etag, size)| ObjectHead { size, etag: etag.to_owned() });
        let staged = object["rows_staged"].as_i64().unwrap_or(0);
        let seen = Seen { generation: object["generation"].as_i64(), rows: Some(rows) };
        Ok(Known { seen, metadata, loaded, listed, staged, registered_sizes })
    }

    /// A producer may have registered again what is loaded already.
    pub fn mark_loaded(&self, client: &mut SpiClient<'_>, seen: &Seen) -> Result<()> {
        let args = [self.text.clone().into(), seen.rows.clone().into(), seen.generation.into()];
        spi::execute_kept(client, include_str!("../../sql/queries/mark_loaded.sql"), &args).map(drop)
    }

    /// What an earlier load of the same version could not store is found again by this one.
    pub fn forget_rejects(&self, client: &mut SpiClient<'_>, head: &ObjectHead) -> Result<()> {
        let args = [self.text.clone().into(), head.etag.clone().into()];
        let sql = "DELETE FROM landing.rejected_ticks WHERE s3_uri = $1 AND etag = $2";
        spi::execute_kept(client, sql, &args).map(drop)
    }

    /// Writes everything that commits together with the ticks.
    pub fn book(&self, client: &mut SpiClient<'_>, booking: &Booking<'_>) -> Result<()> {
        self.book_but_offsets(client, booking)?;
        let mut offsets = Offsets::default();
        self.note_offsets(booking, &mut offsets);
        offsets.write(client)
    }

    /// The same for whoever must not wait: offsets that somebody else has locked are left to the next load.
    pub fn book_at_once(&self, client: &mut SpiClient<'_>, booking: &Booking<'_>, offsets: &mut Offsets) -> Result<()> {
        self.book_but_offsets(client, booking)?;
        let mut all = offsets.clone();
        self.note_offsets(booking, &mut all);
        *offsets = all.write_if_free(client)?;
        Ok(())
    }

    /// The same where offsets are written later: their rows are locked until the transaction ends.
    pub fn book_but_offsets(&self, client: &mut SpiClient<'_>, booking: &Booking<'_>) -> Result<()> {
        self.book_object(client, booking)?;
        self.book_slices(client, booking)?;
        self.book_history(client, booking.report)
    }

    fn book_object(&self, client: &mut SpiClient<'_>, booking: &Booking<'_>) -> Result<()> {
        let report = booking.report;
        let args = [
            self.text.clone().into(),
            report.etag.clone().into(),
            (booking.opened.head.size as i64).into(),
            report.read.into(),
            report.inserted.into(),
            report.duplicate.into(),
            report.conflicting.into(),
            report.replaced.into(),
            report.rejected.into(),
            JsonB(facts(booking)).into(),
            JsonB(booking.options.shape()).into(),
            booking.seen.generation.into(),
        ];
        spi::execute_kept(client, include_str!("../../sql/queries/book_object.sql"), &args).map(drop)
    }

    fn book_slices(&self, client: &mut SpiClient<'_>, booking: &Booking<'_>) -> Result<()> {
        self.book_object_slices(client, booking)?;
        let args = [
            self.text.clone().into(),
            booking.report.etag.clone().into(),
            (booking.opened.head.size as i64).into(),
            JsonB(facts(booking)).into(),
        ];
        spi::execute_kept(client, include_str!("../../sql/queries/book_new_registry_rows.sql"), &args)?;
        let [uri, etag, size, facts] = args;
        let args = [uri, etag, size, facts, booking.seen.rows.clone().into()];
        spi::execute_kept(client, include_str!("../../sql/queries/book_own_registry_rows.sql"), &args).map(drop)
    }

    /// Which slices the object has ticks in.
    pub fn book_object_slices(&self, client: &mut SpiClient<'_>, booking: &Booking<'_>) -> Result<()> {
        let mut columns = SliceColumns::default();
        for ((bucket, asset), slice) in booking.slices {
            columns.buckets.push(timestamp(*bucket)?);
            columns.assets.push(asset.clone());
            columns.ticks.push(slice.len as i64);
            columns.first_ids.push(slice.first_id);
            columns.last_ids.push(slice.last_id);
            columns.first_times.push(timestamp(slice.first_time)?);
            columns.last_times.push(timestamp(slice.last_time)?);
        }
        let shared: [DatumWithOid<'_>; 9] = [
            self.text.clone().into(),
            booking.report.etag.clone().into(),
            columns.buckets.into(),
            columns.assets.into(),
            columns.ticks.into(),
            columns.first_ids.into(),
            columns.last_ids.into(),
            columns.first_times.into(),
            columns.last_times.into(),
        ];
        spi::execute_kept(client, include_str!("../../sql/queries/book_slices.sql"), &shared).map(drop)
    }

    /// More rows of an unfinished object are stored; how many it are together.
    pub fn add_staged(&self, client: &mut SpiClient<'_>, head: &ObjectHead, rows: i64) -> Result<i64> {
        let sql = "UPDATE ingestion.objects
                      SET rows_staged = $4 + CASE WHEN listed_etag = $2 THEN rows_staged ELSE 0 END,
                          listed_etag = $2, listed_size = $3
                    WHERE s3_uri = $1
                RETURNING to_json(rows_staged)::text";
        let args = [self.text.clone().into(), head.etag.clone().into(), (head.size as i64).into(), rows.into()];
        Ok(spi::json_kept(client, sql, &args)?.as_i64().unwrap_or(0))
    }

    /// How far this object moves the offsets of its sources.
    pub fn note_offsets(&self, booking: &Booking<'_>, offsets: &mut Offsets) {
        for ((_, asset), slice) in booking.slices {
            let at = Offset {
                sequence: slice.last_id,
                time: slice.time_of_last_id,
                uri: self.text.clone(),
                etag: booking.report.etag.clone(),
            };
            let known = offsets.0.entry(self.source(booking.options, asset));
            known
                .and_modify(|known| {
                    if at.sequence > known.sequence {
                        *known = at.clone();
                    }
                })
                .or_insert(at);
        }
    }

    fn source(&self, options: &LoadOptions, asset: &str) -> String {
        options.source.clone().unwrap_or_else(|| {
            let exchange = options.exchange.clone().or_else(|| self.uri.exchange(asset));
            format!("s3:{}:{asset}", exchange.as_deref().unwrap_or("unknown"))
        })
    }

    /// One row per attempt that its caller's transaction keeps.
    pub fn book_history(&self, client: &mut SpiClient<'_>, report: &LoadReport) -> Result<()> {
        let args = [
            self.text.clone().into(),
            report.etag.clone().into(),
            report.outcome.as_str().to_owned().into(),
            report.bytes.into(),
            report.read.into(),
            report.inserted.into(),
            report.duplicate.into(),
            report.conflicting.into(),
            report.replaced.into(),
            report.rejected.into(),
            report.fetch_ms.into(),
            report.decode_ms.into(),
            report.insert_ms.into(),
            report.elapsed_ms.into(),
            self.started.into(),
        ];
        spi::execute_kept(client, include_str!("../../sql/queries/book_history.sql"), &args).map(drop)
    }
}

/// Counts an attempt that was not begun in a transaction of its own.
pub fn count_attempt(client: &mut SpiClient<'_>, uri: &str) -> Result<()> {
    let sql = "UPDATE ingestion.objects SET attempts = attempts + 1, attempt_started_at = clock_timestamp() WHERE s3_uri = $1";
    spi::execute_kept(client, sql, &[uri.to_owned().into()]).map(drop)
}

/// How far each source has come.
#[derive(Debug, Clone, Default)]
pub struct Offsets(BTreeMap<String, Offset>);

#[derive(Debug, Clone)]
struct Offset {
    sequence: i64,
    time: i64,
    uri: String,
    etag: String,
}

impl Offsets {
    /// Moves each source's offset forward; what is older than the offset leaves it, and locks nothing.
    pub fn write(&self, client: &mut SpiClient<'_>) -> Result<()> {
        self.0.iter().try_for_each(|(source, offset)| offset.write(client, source))
    }

    /// The same without waiting for anybody; those that somebody else has locked.
    pub fn write_if_free(self, client: &mut SpiClient<'_>) -> Result<Offsets> {
        let mut left = BTreeMap::new();
        for (source, offset) in self.0 {
            let sql = include_str!("../../sql/queries/offset_is_free.sql");
            if spi::json_kept(client, sql, &[source.clone().into()])? == true {
                offset.write(client, &source)?;
            } else {
                left.insert(source, offset);
            }
        }
        Ok(Offsets(left))
    }

    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Offset {
    fn write(&self, client: &mut SpiClient<'_>, source: &str) -> Result<()> {
        let state = json!({ "last_uri": self.uri, "last_etag": self.etag });
        let args = [source.to_owned().into(), self.sequence.into(), timestamp(self.time)?.into(), JsonB(state).into()];
        let moved = spi::execute_kept(client, include_str!("../../sql/queries/move_offset.sql"), &args)?;
        if moved == 0 {
            spi::execute_kept(client, include_str!("../../sql/queries/new_offset.sql"), &args)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct SliceColumns {
    buckets: Vec<TimestampWithTimeZone>,
    assets: Vec<String>,
    ticks: Vec<i64>,
    first_ids: Vec<i64>,
    last_ids: Vec<i64>,
    first_times: Vec<TimestampWithTimeZone>,
    last_times: Vec<TimestampWithTimeZone>,
}

/// What the load adds to `metadata`. `row_count`, not `rows`: that key is the producer's claim.
fn facts(booking: &Booking<'_>) -> Value {
    json!({
        "etag": booking.report.etag,
        "writer": booking.opened.meta.writer(),
        "schema_fingerprint": booking.opened.meta.fingerprint(),
        "row_count": booking.opened.meta.rows(),
    })
}

/// Stores rows that were refused: (row of the object, reason, the row).
pub fn insert_rejects(
    client: &mut SpiClient<'_>,
    uri: &str,
    etag: &str,
    rejects: Vec<(u64, String, Value)>,
) -> Result<()> {
    if rejects.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(rejects.len());
    let mut reasons = Vec::with_capacity(rejects.len());
    let mut data = Vec::with_capacity(rejects.len());
    for (row, reason, values) in rejects {
        rows.push(row as i64);
        reasons.push(reason);
        data.push(JsonB(values));
    }
    let args = [uri.to_owned().into(), etag.to_owned().into(), rows.into(), reasons.into(), data.into()];
    spi::execute_kept(client, include_str!("../../sql/queries/insert_rejects.sql"), &args).map(drop)
}

/// A time in microseconds since 1970 as PostgreSQL's.
pub fn timestamp(time_us: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(time_us - POSTGRES_EPOCH_US)
        .map_err(|_| Error::Internal { why: format!("{time_us} is no time that PostgreSQL can hold") })
}
