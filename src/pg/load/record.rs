//! The result of a load beside the ticks: object, slices, registry rows, offsets and history.

use std::collections::BTreeSet;

use pgrx::JsonB;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde_json::{Value, json};

use super::id_sets;
use super::known::{Known, Version};
use super::offsets::{Offset, Offsets};
use super::slices::Slices;
use crate::error::Result;
use crate::load::pipeline::Opened;
use crate::model::options::{LoadOptions, OnConflict};
use crate::model::report::LoadReport;
use crate::model::uri::S3Uri;
use crate::pg::session::locks::Lock;
use crate::pg::session::time::{now, timestamp};
use crate::pg::session::{lock_room, spi};
use crate::s3::head::ObjectHead;

/// The rows of one object outside the hypertable, for one load.
pub struct ObjectRecord {
    uri: S3Uri,
    text: String,
    started: TimestampWithTimeZone,
}

/// The result of a finished load.
pub struct LoadResult<'a> {
    /// The options of the load.
    pub options: &'a LoadOptions,
    /// What the load has done with conflicts.
    pub on_conflict: OnConflict,
    /// Head and footer of the object.
    pub opened: &'a Opened,
    /// What the object has in each slice.
    pub slices: &'a Slices,
    /// Counts and times.
    pub report: &'a LoadReport,
    /// What was registered before the object's bytes were asked for.
    pub version: &'a Version,
}

impl ObjectRecord {
    /// Waits for the object's lock and holds it until the transaction ends. It is an advisory lock: a row
    /// lock would block a producer's upsert while the load runs.
    pub fn lock(uri: &S3Uri) -> Result<ObjectRecord> {
        let record = Self::without_lock(uri)?;
        lock_room::reserve(1)?;
        Lock::Object(&record.text).take_for_transaction();
        Ok(record)
    }

    /// Takes the object's lock until the transaction ends. Returns `None` if another session holds it.
    pub fn lock_if_free(uri: &S3Uri) -> Result<Option<ObjectRecord>> {
        let record = Self::without_lock(uri)?;
        lock_room::reserve(1)?;
        Ok(Lock::Object(&record.text).try_for_transaction().then_some(record))
    }

    /// Returns the record of an object without taking its lock. The caller holds another lock that excludes
    /// all other loads of the object.
    pub fn without_lock(uri: &S3Uri) -> Result<ObjectRecord> {
        Ok(ObjectRecord { uri: uri.clone(), text: uri.to_string(), started: now()? })
    }

    /// Reads what is registered of the object.
    pub fn known(&self, client: &mut SpiClient<'_>) -> Result<Known> {
        Known::read(client, &self.text)
    }

    /// Marks the object and its registry rows as loaded without a load: a producer may have registered
    /// again what is loaded already.
    pub fn mark_loaded(&self, client: &mut SpiClient<'_>, version: &Version) -> Result<()> {
        let args = [self.text.clone().into(), version.rows.clone().into(), version.generation.into()];
        spi::execute_kept(client, statement!("mark_loaded"), &args).map(drop)
    }

    /// Deletes the rejected rows of an earlier load of this version: the load that begins finds them again.
    pub fn forget_rejects(&self, client: &mut SpiClient<'_>, head: &ObjectHead) -> Result<()> {
        let args = [self.text.clone().into(), head.etag.clone().into()];
        let sql = "DELETE FROM landing.rejected_ticks WHERE s3_uri = $1 AND etag = $2";
        spi::execute_kept(client, sql, &args).map(drop)
    }

    /// Writes everything that commits together with the ticks.
    pub fn record(&self, client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
        self.record_but_offsets(client, result)?;
        let mut offsets = Offsets::default();
        self.note_offsets(result, &mut offsets);
        offsets.write(client)
    }

    /// Does the same as [`Self::record`] without waiting for an offset. Adds the offsets that other sessions have
    /// locked to `left`.
    pub fn record_without_waiting(
        &self,
        client: &mut SpiClient<'_>,
        result: &LoadResult<'_>,
        left: &mut Offsets,
    ) -> Result<()> {
        self.record_but_offsets(client, result)?;
        let mut own = Offsets::default();
        self.note_offsets(result, &mut own);
        left.merge(own.write_if_free(client)?);
        Ok(())
    }

    /// Writes the result without the offsets, for a caller that writes them later: a written offset stays
    /// locked until the transaction ends.
    pub fn record_but_offsets(&self, client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
        self.record_object(client, result)?;
        self.record_slices(client, result)?;
        self.record_history(client, result.report)
    }

    fn record_object(&self, client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
        let report = result.report;
        let args = [
            self.text.clone().into(),
            report.etag.clone().into(),
            (result.opened.head.size as i64).into(),
            report.read.into(),
            report.inserted.into(),
            report.duplicate.into(),
            report.conflicting.into(),
            report.replaced.into(),
            report.rejected.into(),
            JsonB(facts(result)).into(),
            JsonB(result.options.shape()).into(),
            result.version.generation.into(),
            if result.on_conflict == OnConflict::Replace { "replace" } else { "keep" }.to_owned().into(),
        ];
        spi::execute_kept(client, statement!("record_object"), &args).map(drop)
    }

    /// Writes the result of a load that has stored one slice again. What is recorded of the object stays true.
    pub fn record_slice_again(&self, client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
        let sql = "UPDATE ingestion.objects SET reload = false WHERE s3_uri = $1";
        spi::execute_kept(client, sql, &[self.text.clone().into()])?;
        self.record_object_slices(client, result)?;
        self.record_history(client, result.report)
    }

    /// Marks an object whose ticks of a slice are about to be deleted and loaded again: until then, they do not count
    /// as stored.
    pub fn mark_for_reload(&self, client: &mut SpiClient<'_>) -> Result<()> {
        let sql = "UPDATE ingestion.objects SET reload = true WHERE s3_uri = $1 AND loaded_at IS NOT NULL";
        spi::execute_kept(client, sql, &[self.text.clone().into()]).map(drop)
    }

    fn record_slices(&self, client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
        self.record_object_slices(client, result)?;
        let args = [
            self.text.clone().into(),
            result.report.etag.clone().into(),
            (result.opened.head.size as i64).into(),
            JsonB(facts(result)).into(),
        ];
        spi::execute_kept(client, statement!("record_new_registry_rows"), &args)?;
        let [uri, etag, size, facts] = args;
        let args = [uri, etag, size, facts, result.version.rows.clone().into()];
        spi::execute_kept(client, statement!("record_own_registry_rows"), &args).map(drop)
    }

    /// Records the slices of the object and notifies the listeners of `btc_ingest_loaded`.
    pub fn record_object_slices(&self, client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
        let mut columns = SliceColumns::default();
        for ((bucket, asset), slice) in result.slices {
            columns.buckets.push(timestamp(*bucket)?);
            columns.assets.push(asset.clone());
            columns.ticks.push(slice.len as i64);
            columns.first_ids.push(slice.first_id);
            columns.last_ids.push(slice.last_id);
            columns.first_times.push(timestamp(slice.first_time)?);
            columns.last_times.push(timestamp(slice.last_time)?);
            columns.ids.push(slice.ids.multirange());
            columns.missing_ids.push(slice.ids.missing());
            columns.out_of_order.push(slice.out_of_order);
            columns.max_skews.push(slice.max_skew);
            columns.skewed.push(slice.skewed);
            columns.duplicates.push(slice.duplicates);
            columns.conflicts.push(slice.conflicts);
        }
        let shared: [DatumWithOid<'_>; 16] = [
            self.text.clone().into(),
            result.report.etag.clone().into(),
            columns.buckets.into(),
            columns.assets.into(),
            columns.ticks.into(),
            columns.first_ids.into(),
            columns.last_ids.into(),
            columns.first_times.into(),
            columns.last_times.into(),
            columns.ids.into(),
            columns.missing_ids.into(),
            columns.out_of_order.into(),
            columns.max_skews.into(),
            columns.skewed.into(),
            columns.duplicates.into(),
            columns.conflicts.into(),
        ];
        spi::execute_planned(client, record_slices(), &shared)?;
        declare_assets(client, result)?;
        id_sets::merge_sometimes(client, result.slices.len())
    }

    /// Adds stored rows to those of an object that is not completely loaded yet. Returns their sum, or 0 if
    /// the object's row was deleted.
    pub fn add_staged(&self, client: &mut SpiClient<'_>, head: &ObjectHead, rows: i64) -> Result<i64> {
        // The first part that is stored gives a new object its place in the order of loads.
        let sql = "UPDATE ingestion.objects
                      SET load_order = CASE WHEN rows_staged = 0 AND loaded_at IS NULL
                                            THEN nextval(pg_get_serial_sequence('ingestion.objects', 'load_order'))
                                            ELSE load_order END,
                          rows_staged = $4 + CASE WHEN listed_etag = $2 THEN rows_staged ELSE 0 END,
                          listed_etag = $2, listed_size = $3
                    WHERE s3_uri = $1
                RETURNING to_json(rows_staged)::text";
        let args = [self.text.clone().into(), head.etag.clone().into(), (head.size as i64).into(), rows.into()];
        let staged: Option<i64> = spi::fetch_kept(client, sql, &args)?;
        Ok(staged.unwrap_or(0))
    }

    /// Adds the offsets to which this object moves its sources.
    pub fn note_offsets(&self, result: &LoadResult<'_>, offsets: &mut Offsets) {
        for ((_, asset), slice) in result.slices {
            let offset = Offset {
                sequence: slice.last_id,
                time: slice.time_of_last_id,
                uri: self.text.clone(),
                etag: result.report.etag.clone(),
            };
            offsets.note(self.source(result.options, asset), offset);
        }
    }

    fn source(&self, options: &LoadOptions, asset: &str) -> String {
        options.source.clone().unwrap_or_else(|| {
            let exchange = options.exchange.clone().or_else(|| self.uri.exchange(asset));
            format!("s3:{}:{asset}", exchange.as_deref().unwrap_or("unknown"))
        })
    }

    /// Adds a row to `ingestion.load_history`.
    pub fn record_history(&self, client: &mut SpiClient<'_>, report: &LoadReport) -> Result<()> {
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
        spi::execute_kept(client, statement!("record_history"), &args).map(drop)
    }
}

/// Returns the statement that records slices.
fn record_slices() -> &'static str {
    #[cfg(feature = "bench")]
    if !crate::model::ledger_switch::is_on() {
        return statement!("bench_slices");
    }
    statement!("record_slices")
}

/// Declares the assets of the object as the option `sequential_ids` says. What a role has declared stays.
fn declare_assets(client: &mut SpiClient<'_>, result: &LoadResult<'_>) -> Result<()> {
    let Some(sequential) = result.options.sequential_ids else { return Ok(()) };
    let assets: BTreeSet<String> = result.slices.keys().map(|(_, asset)| asset.clone()).collect();
    let args = [assets.into_iter().collect::<Vec<_>>().into(), sequential.into()];
    spi::execute_kept(client, statement!("assets_of_load"), &args).map(drop)
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
    /// As int8multirange.
    ids: Vec<Option<String>>,
    missing_ids: Vec<i64>,
    out_of_order: Vec<i64>,
    /// Microseconds.
    max_skews: Vec<Option<i64>>,
    skewed: Vec<i64>,
    duplicates: Vec<i64>,
    conflicts: Vec<i64>,
}

/// Returns what the load adds to `metadata`. The key is `row_count`, because `rows` is the number that the
/// producer claims.
fn facts(result: &LoadResult<'_>) -> Value {
    let mut facts = json!({
        "etag": result.report.etag,
        "writer": result.opened.writer,
        "schema_fingerprint": result.opened.fingerprint,
        "row_count": result.opened.rows,
    });
    // The vector of a slice says of which exchange it is, also when it is made from the table.
    if let Some(exchange) = &result.options.exchange {
        facts["exchange"] = json!(exchange);
    }
    facts
}
