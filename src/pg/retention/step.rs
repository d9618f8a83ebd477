//! One step on the way to drop a chunk: the proof of some of its objects, or the drop. All that is checked before a
//! drop is checked in the transaction of the drop, while no other session can change the chunk.

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::chunk;
use super::other;
use super::outcome::Outcome;
use crate::error::{Error, Result};
use crate::load::heads::{self, Absent};
use crate::model::uri::S3Uri;
use crate::pg::candles::beside;
use crate::pg::load::plan::allowed_uri;
use crate::pg::session::ffi;
use crate::pg::session::locks::Lock;
use crate::pg::session::time::timestamp;
use crate::pg::session::{guc, report, spi};

/// Objects that one step looks for. The step is a transaction, and its end shows how far the proof is.
const PROVEN_AT_ONCE: i32 = 1_000;

/// A chunk that is due (`retention_next.sql`).
#[derive(Deserialize)]
struct Due {
    job: String,
    /// Its table, quoted.
    chunk: String,
    /// Its start in microseconds since 1970.
    from: i64,
    /// Its end (exclusive).
    to: i64,
    #[serde(deserialize_with = "spi::nullable")]
    proven_to: Option<String>,
    proven: bool,
    /// Digest of the objects that are found.
    #[serde(deserialize_with = "spi::nullable")]
    found: Option<String>,
}

/// Objects that a step has found.
#[derive(Default)]
struct Found {
    /// The last one.
    last: Option<String>,
    objects: i64,
    /// Whether no further one serves the chunk.
    all: bool,
    /// Digest of these and of those before them.
    digest: Option<String>,
}

impl Found {
    /// Describes objects, with their versions, that follow others with the digest `before`.
    fn of(before: Option<&str>, objects: &[(String, String)]) -> Found {
        let mut digest = Sha256::new();
        digest.update(before.unwrap_or_default());
        for (uri, etag) in objects {
            digest.update(format!("{uri}\n{etag}\n"));
        }
        Found {
            last: objects.last().map(|(uri, _)| uri.clone()),
            objects: objects.len() as i64,
            all: objects.len() < PROVEN_AT_ONCE as usize,
            digest: Some(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// The ticks of a chunk (`retention_count.sql`).
#[derive(Deserialize)]
struct Counted {
    /// Asset, ticks, objects.
    assets: Vec<(String, i64, i64)>,
    #[serde(deserialize_with = "spi::nullable")]
    lacking: Option<String>,
}

/// Does one step at a chunk of ticks that is due, or else of another hypertable. A chunk that the run, which began at
/// `began`, has held back is left to the next run. Returns what the step has done. The caller has the privileges of the
/// tables' owner.
pub fn step(client: &mut SpiClient<'_>, began: TimestampWithTimeZone) -> Result<Outcome> {
    // What was committed between a snapshot and the lock of a chunk would be dropped unseen.
    let isolation: String = spi::fetch(client, "SELECT to_json(current_setting('transaction_isolation'))::text", &[])?;
    if isolation != "read committed" {
        let what = format!(
            "run_retention() runs in transactions at READ COMMITTED only, not at {}: SET \
             default_transaction_isolation = 'read committed'",
            isolation.to_uppercase()
        );
        return Err(Error::InvalidArgument { what });
    }
    // Two runs would prove the same chunk twice.
    if !Lock::Retention.try_for_transaction() {
        return Ok(Outcome::Busy);
    }
    let due: Option<Due> = spi::fetch(client, statement!("retention_next"), &[began.into()])?;
    let Some(due) = due else {
        let gone = "DELETE FROM ops.retention_checks k WHERE NOT EXISTS (
                        SELECT FROM ops.retention_jobs r
                          JOIN timescaledb_information.chunks c
                            ON c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
                         WHERE r.enabled AND r.job_name = k.job_name AND c.range_start = k.chunk_from)";
        spi::execute(client, gone, &[])?;
        return Ok(other::step(client, began)?.unwrap_or(Outcome::Done));
    };
    due.take_step(client)
}

impl Due {
    fn take_step(&self, client: &mut SpiClient<'_>) -> Result<Outcome> {
        if let Some(why) = self.held_by(client)? {
            return self.hold(client, &why);
        }
        if guc::retention_proof() && !self.proven {
            return self.prove(client);
        }
        // A refresh that has taken its ranges from TimescaleDB's log may not have written its candles yet.
        if !Lock::Refresh.try_for_transaction() {
            return self.hold(client, "candles are being refreshed");
        }
        match chunk::lock(client, &self.chunk)? {
            true => self.drop(client),
            false => self.hold(client, "another session uses it"),
        }
    }

    fn range(&self) -> Result<[DatumWithOid<'static>; 2]> {
        Ok([timestamp(self.from)?.into(), timestamp(self.to)?.into()])
    }

    /// Returns what holds the chunk back, as the tables say.
    fn held_by(&self, client: &mut SpiClient<'_>) -> Result<Option<String>> {
        let sql = statement!("retention_hold");
        let known =
            "SELECT (to_regclass('_timescaledb_catalog.continuous_aggs_materialization_ranges') IS NOT NULL)::text";
        // Older versions of TimescaleDB have no such table: a refresh takes its ranges from the log in the transaction
        // that writes the candles.
        let sql = match spi::fetch(client, known, &[])? {
            true => sql.to_owned(),
            false => sql
                .replace("continuous_aggs_materialization_ranges", "continuous_aggs_materialization_invalidation_log"),
        };
        spi::fetch(client, &sql, &self.range()?)
    }

    fn hold(&self, client: &mut SpiClient<'_>, why: &str) -> Result<Outcome> {
        self.record(client, Found::default(), Some(why)).map(|()| Outcome::Held)
    }

    fn record(&self, client: &mut SpiClient<'_>, found: Found, held_by: Option<&str>) -> Result<()> {
        let [from, to] = self.range()?;
        let held_by = held_by.map(str::to_owned);
        let Found { last, objects, all, digest } = found;
        let job = self.job.clone();
        let args = [from, to, job.into(), last.into(), objects.into(), all.into(), held_by.into(), digest.into()];
        spi::execute(client, statement!("retention_checked"), &args).map(drop)
    }

    /// Looks for the next objects of the chunk in S3.
    fn prove(&self, client: &mut SpiClient<'_>) -> Result<Outcome> {
        let objects = self.objects(client, self.proven_to.clone())?;
        let found = Found::of(self.found.as_deref(), &objects);
        let mut asked = Vec::with_capacity(objects.len());
        for (uri, etag) in objects {
            match allowed_uri(&uri) {
                Ok(uri) => asked.push((uri, etag)),
                Err(error) => return self.hold(client, &error.to_string()),
            }
        }
        if let Some(why) = absent(asked)? {
            return self.hold(client, &why);
        }
        self.record(client, found, None)?;
        Ok(Outcome::Proving)
    }

    /// Returns the next objects that serve the chunk, behind one, with their loaded versions.
    fn objects(&self, client: &mut SpiClient<'_>, after: Option<String>) -> Result<Vec<(String, String)>> {
        let [from, to] = self.range()?;
        spi::fetch(client, statement!("retention_objects"), &[from, to, after.into(), PROVEN_AT_ONCE.into()])
    }

    /// Returns the digest of all objects that serve the chunk now.
    fn found_now(&self, client: &mut SpiClient<'_>) -> Result<Option<String>> {
        let mut found = Found::default();
        while !found.all {
            let objects = self.objects(client, found.last)?;
            found = Found::of(found.digest.as_deref(), &objects);
        }
        Ok(found.digest)
    }

    /// Drops the chunk, which this session has locked, and records what was dropped.
    fn drop(&self, client: &mut SpiClient<'_>) -> Result<Outcome> {
        // What was true before the lock may have changed.
        if let Some(why) = self.held_by(client)? {
            return self.hold(client, &why);
        }
        let counted: Counted = spi::fetch(client, statement!("retention_count"), &self.range()?)?;
        if guc::retention_proof() {
            // No session loads into the locked chunk: what is listed now is what is dropped.
            if self.found_now(client)? != self.found {
                return self.hold(client, "other objects serve it than those that were looked for");
            }
            if let Some(why) = counted.lacking {
                return self.hold(client, &why);
            }
        }
        // No refresh computes candles of an asset where ticks of another one are dropped already. This is the last time
        // that they can be computed.
        beside::fill(client, Some((timestamp(self.from)?, timestamp(self.to)?)))?;
        for (asset, ticks, objects) in &counted.assets {
            let [from, to] = self.range()?;
            let args = [from, to, asset.clone().into(), (*ticks).into(), (*objects).into(), self.job.clone().into()];
            spi::execute(client, statement!("retention_record"), &args)?;
        }
        chunk::drop_one(client, self.range()?, "market_data.btc_ticks")?;
        let done = "DELETE FROM ops.retention_checks WHERE chunk_from = $1";
        spi::execute(client, done, &[timestamp(self.from)?.into()])?;
        let ticks: i64 = counted.assets.iter().map(|(_, ticks, _)| ticks).sum();
        report::log(&format!("btc_ingest retention: dropped {} with {ticks} ticks ({})", self.chunk, self.job));
        Ok(Outcome::Dropped)
    }
}

/// Asks S3 for the objects, and returns which of them is not there as it was loaded.
fn absent(objects: Vec<(S3Uri, String)>) -> Result<Option<String>> {
    if objects.is_empty() {
        return Ok(None);
    }
    let s3 = guc::s3();
    let mut thread = ffi::Thread::start(1, move |io, events| heads::run(objects, &s3, io, events))?;
    Ok(thread.next()?.map(|absent| match absent {
        Absent::Gone(uri) => format!("{uri} is no longer in S3"),
        Absent::Replaced(uri, etag) => format!("{uri} was replaced in S3: its etag is {etag}"),
    }))
}
