//! The windows whose vectors are nearest to one. Runs with the privileges of its caller and in its snapshot.

use std::ffi::{CStr, CString};

use pgrx::Spi;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::spi::SpiClient;
use serde::Deserialize;

use super::catalog::Catalog;
use crate::error::{Error, Result, WindowError};
use crate::model::window::{FEATURE_VERSION, hnsw_candidates};
use crate::pg::session::ffi::{self, Column, Row, RunAs};
use crate::pg::session::spi;
use crate::pg::session::time::Time;

/// The most windows that one call returns.
const MOST: i32 = 10_000;

/// Which windows may be found. Times are texts as PostgreSQL writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Windows whose labels were known then.
    before: Option<String>,
    /// Windows that begin less than this from the one that is asked for are left out.
    exclude: Option<String>,
    assets: Option<Vec<String>>,
    exchanges: Option<Vec<String>>,
    from: Option<String>,
    to: Option<String>,
}

/// Which vector the others are compared with.
pub enum Origin<'a> {
    /// That of a stored window.
    Window { bucket: TimestampWithTimeZone, asset: &'a str },
    /// One that is given, and the feature version of the others.
    Vector { numbers: Vec<f32>, version: Option<String> },
}

/// A window that was found.
pub struct Found {
    pub bucket: TimestampWithTimeZone,
    pub exchange: String,
    pub asset: String,
    pub distance: f64,
    /// JSON, if there are labels.
    pub labels: Option<String>,
    time: i64,
}

/// A vector, and what made it (`windows_origin.sql`).
#[derive(Deserialize)]
struct Vector {
    numbers: Vec<f32>,
    version: String,
}

/// Returns the nearest windows, the nearest first: `k` of them whenever so many match.
pub fn nearest(origin: Origin<'_>, k: i32, filter: &Filter) -> Result<Vec<Found>> {
    if !(1..=MOST).contains(&k) {
        return Err(Error::InvalidArgument { what: format!("k must be 1 to {MOST}, not {k}") });
    }
    Spi::connect_mut(|client| {
        // The settings of the search end with it.
        let _settings = RunAs::same_role();
        let catalog: Catalog = spi::fetch_kept_in_snapshot(client, statement!("windows_catalog"), &[])?;
        let (vector, bucket) = vector_of(client, &catalog, origin)?;
        let search = Search { catalog: &catalog, vector: &vector, bucket, k, filter };
        search.choose_settings();
        let mut found = search.run(client)?;
        // A search through an index ends after a part of it. Without one, no row that matches is left out.
        if found.len() < k as usize && !catalog.indexes.is_empty() {
            set(c"enable_indexscan", "off");
            found = search.run(client)?;
        }
        found.sort_by(|one, other| {
            let keys = (one.time, &one.exchange, &one.asset).cmp(&(other.time, &other.exchange, &other.asset));
            one.distance.total_cmp(&other.distance).then(keys)
        });
        Ok(found)
    })
}

/// Returns the vector that the others are compared with, and the bucket of its window.
fn vector_of(
    client: &SpiClient<'_>,
    catalog: &Catalog,
    origin: Origin<'_>,
) -> Result<(Vector, Option<TimestampWithTimeZone>)> {
    match origin {
        Origin::Window { bucket, asset } => {
            let args = [bucket.into(), asset.to_owned().into()];
            let found: Option<Vector> = spi::fetch_kept_in_snapshot(client, statement!("windows_origin"), &args)?;
            let bucket_text = || Time::At(bucket.into()).to_string();
            let unknown = || Error::Window(WindowError::Unknown { bucket: bucket_text(), asset: asset.to_owned() });
            Ok((found.ok_or_else(unknown)?, Some(bucket)))
        }
        Origin::Vector { numbers, version } => {
            let (wanted, given) = (catalog.dimensions.unwrap_or_default(), numbers.len() as i64);
            if catalog.dimensions.is_some() && wanted != given {
                return Err(Error::Window(WindowError::WrongDimensions { wanted, given }));
            }
            if !numbers.iter().all(|number| number.is_finite()) {
                return Err(Error::InvalidArgument { what: "the vector must have finite numbers only".into() });
            }
            let version = version.unwrap_or_else(|| FEATURE_VERSION.to_owned());
            let sql = catalog.name_vector(statement!("windows_versions"));
            if !spi::fetch_in_snapshot(client, &sql, &[version.clone().into()])? {
                return Err(Error::Window(WindowError::UnknownVersion { version }));
            }
            Ok((Vector { numbers, version }, None))
        }
    }
}

/// One search.
struct Search<'a> {
    catalog: &'a Catalog,
    vector: &'a Vector,
    bucket: Option<TimestampWithTimeZone>,
    k: i32,
    filter: &'a Filter,
}

impl Search<'_> {
    /// Sets how much of an index is searched, and that the search goes on while rows are filtered out.
    fn choose_settings(&self) {
        let lists = self.catalog.lists.unwrap_or(1).max(1);
        // A tenth of the lists, and more of few lists.
        let probes = (lists / 10).max((lists as f64).sqrt().ceil() as i64).clamp(1, lists);
        set(c"ivfflat.probes", &probes.to_string());
        set(c"hnsw.ef_search", &hnsw_candidates(self.k, self.catalog.rows).to_string());
        // Versions before 0.8 have none of these.
        if ffi::setting(c"hnsw.iterative_scan").is_some() {
            set(c"ivfflat.iterative_scan", "relaxed_order");
            set(c"hnsw.iterative_scan", "strict_order");
        }
    }

    fn run(&self, client: &SpiClient<'_>) -> Result<Vec<Found>> {
        let (sql, args) = self.statement();
        let mut found = Vec::new();
        let columns = [Column::Time, Column::Text, Column::Text, Column::Float8, Column::Text];
        ffi::for_each_row(client, &sql, &columns, &args, |row| {
            found.extend(found_in(row));
            Ok(())
        })?;
        Ok(found)
    }

    /// Returns the statement and its arguments. Only the filters that are given are part of it, so that the planner
    /// chooses by them.
    fn statement(&self) -> (String, Vec<DatumWithOid<'_>>) {
        let Filter { before, exclude, assets, exchanges, from, to } = self.filter;
        let mut args: Vec<DatumWithOid<'_>> =
            vec![self.vector.numbers.clone().into(), self.vector.version.clone().into(), self.k.into()];
        let mut conditions = String::new();
        let mut add = |condition: &str, arg: DatumWithOid<'static>| {
            args.push(arg);
            conditions.push_str("\n   AND ");
            conditions.push_str(&condition.replace("$n", &format!("${}", args.len())));
        };
        if let Some(before) = before {
            add("e.labelled_to <= $n::text::timestamptz", before.clone().into());
        }
        if let Some(assets) = assets {
            add("e.asset = ANY ($n)", assets.clone().into());
        }
        if let Some(exchanges) = exchanges {
            add("e.exchange = ANY ($n)", exchanges.clone().into());
        }
        if let Some(from) = from {
            add("e.bucket >= $n::text::timestamptz", from.clone().into());
        }
        if let Some(to) = to {
            add("e.bucket < $n::text::timestamptz", to.clone().into());
        }
        if let Some(bucket) = self.bucket {
            let exclude = exclude.clone().unwrap_or_else(|| "0".into());
            add("e.bucket <> $n", bucket.into());
            let at = args.len();
            args.push(exclude.into());
            let by = args.len();
            conditions.push_str(&format!(
                "\n   AND NOT (e.bucket > ${at} - ${by}::text::interval AND e.bucket < ${at} + ${by}::text::interval)"
            ));
        }
        let sql = self.catalog.name_vector(statement!("windows_nearest"));
        (sql.replace("-- {conditions}", conditions.trim_start()), args)
    }
}

fn found_in(row: &Row<'_>) -> Option<Found> {
    let text = |column| row.bytes(column).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let time = row.int8(0)?;
    Some(Found {
        bucket: TimestampWithTimeZone::try_from(time).ok()?,
        exchange: text(1)?,
        asset: text(2)?,
        distance: row.float8(3)?,
        labels: text(4),
        time,
    })
}

fn set(name: &CStr, value: &str) {
    if let Ok(value) = CString::new(value) {
        ffi::set_local(name, &value);
    }
}
