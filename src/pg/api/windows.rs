//! Vectors, labels and the search for similar windows, which `sql/windows.sql` declares.

use pgrx::AnyElement;
use pgrx::prelude::*;

use super::json;
use crate::error::{Error, Result};
use crate::pg::session::report;
use crate::pg::session::time::since_1970;
use crate::pg::windows::embed;
use crate::pg::windows::index::{self, Kind};
use crate::pg::windows::label::{self, Incomplete, Question};
use crate::pg::windows::nearest::{self, Filter, Origin};
use crate::pg::windows::offset;
use crate::pg::windows::reference::{self, Link};

/// Times before and after all ticks, in microseconds since 1970.
const BEGINNING: i64 = crate::model::bucket::MIN_TIME_US + crate::model::bucket::BUCKET_US;
const END: i64 = crate::model::bucket::END_TIME_US - crate::model::bucket::BUCKET_US;

fn wrong(what: &str) -> Error {
    Error::InvalidArgument { what: what.into() }
}

/// Returns both ends of a range in microseconds since 1970; an infinite end is the first or last time of all.
fn range(from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>) -> Result<(i64, i64)> {
    let (Some(from), Some(to)) = (from, to) else { return Err(wrong("from and to must not be null")) };
    let (from, to) = (bound(from), bound(to));
    if from >= to { Err(wrong("the range must begin before it ends")) } else { Ok((from, to)) }
}

fn bound(time: TimestampWithTimeZone) -> i64 {
    let end = if i64::from(time) < 0 { BEGINNING } else { END };
    since_1970(time).map_or(end, |time| time.clamp(BEGINNING, END))
}

#[pg_extern(sql = false)]
fn embed(from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>, asset: Option<&str>) -> i64 {
    report::or_raise(None, range(from, to).and_then(|(from, to)| embed::embed(from, to, asset)))
}

#[pg_extern(sql = false)]
fn label_windows(
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    horizons: Option<Vec<Option<Interval>>>,
    assets: Option<Vec<Option<String>>>,
    from_times: Option<Vec<Option<TimestampWithTimeZone>>>,
    to_times: Option<Vec<Option<TimestampWithTimeZone>>>,
) -> i64 {
    let result = || {
        let range = range(from, to)?;
        let horizons: Result<Vec<i64>> = horizons.unwrap_or_default().into_iter().map(microseconds).collect();
        let ends = from_times.unwrap_or_default().into_iter().zip(to_times.unwrap_or_default());
        let incomplete = assets
            .unwrap_or_default()
            .into_iter()
            .zip(ends)
            .filter_map(|(asset, (from, to))| Some(Incomplete { asset, from: bound(from?), to: bound(to?) }))
            .collect();
        label::label(&Question { range, horizons: label::checked_horizons(horizons?)?, incomplete })
    };
    report::or_raise(None, result())
}

fn microseconds(interval: Option<Interval>) -> Result<i64> {
    let interval = interval.ok_or_else(|| wrong("horizons must not have a null in it"))?;
    if interval.months() != 0 {
        return Err(wrong("a horizon must have no months, which differ in length"));
    }
    i64::try_from(interval.as_micros()).map_err(|_| wrong("a horizon is too long"))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn nearest_windows(
    bucket: Option<TimestampWithTimeZone>,
    asset: Option<&str>,
    numbers: Option<Vec<Option<f32>>>,
    version: Option<String>,
    k: Option<i32>,
    filter: Option<AnyElement>,
) -> TableIterator<
    'static,
    (
        name!(bucket, TimestampWithTimeZone),
        name!(exchange, String),
        name!(asset, String),
        name!(distance, f64),
        name!(labels, Option<String>),
    ),
> {
    let result = || {
        let filter: Filter =
            serde_json::from_value(json("filter", filter)?).map_err(|error| wrong(&error.to_string()))?;
        let k = k.ok_or_else(|| wrong("k must not be null"))?;
        let origin = match (numbers, bucket, asset) {
            (Some(numbers), ..) => {
                let numbers: Option<Vec<f32>> = numbers.into_iter().collect();
                Origin::Vector { numbers: numbers.ok_or_else(|| wrong("the vector must have no null"))?, version }
            }
            (None, Some(bucket), Some(asset)) => Origin::Window { bucket, asset },
            _ => return Err(wrong("bucket, asset and vector must not be null")),
        };
        let found = nearest::nearest(origin, k, &filter)?;
        let row = |found: nearest::Found| (found.bucket, found.exchange, found.asset, found.distance, found.labels);
        Ok(TableIterator::new(found.into_iter().map(row)))
    };
    report::or_raise(None, result())
}

#[pg_extern(sql = false)]
fn rebuild_embedding_index(kind: Option<&str>) -> String {
    report::or_raise(None, Kind::parse(kind.unwrap_or("ivfflat")).and_then(index::rebuild))
}

#[pg_extern(sql = false)]
fn set_embedding_dimensions(dimensions: Option<i32>, discard: Option<bool>) -> String {
    let dimensions = dimensions.ok_or_else(|| wrong("dimensions must not be null"));
    let result = dimensions.and_then(|dimensions| index::set_dimensions(dimensions, discard.unwrap_or_default()));
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn reference_embeddings(target: Option<pg_sys::Oid>, column: Option<&str>, asset_column: Option<&str>) -> String {
    let result = match (target, column) {
        (Some(target), Some(column)) => reference::link(&Link { target, column, asset_column }),
        _ => Err(wrong("target and column must not be null")),
    };
    report::or_raise(None, result)
}

#[pg_extern(sql = false)]
fn unreference_embeddings() -> String {
    report::or_raise(None, reference::unlink())
}

#[pg_extern(sql = false)]
fn set_embedding_offset(source: Option<&str>, last_ts: Option<TimestampWithTimeZone>, state: Option<AnyElement>) {
    let result = || match (source, last_ts) {
        (Some(source), Some(last_ts)) => offset::set(source, last_ts, &json("state", state)?),
        _ => Err(wrong("source and last_ts must not be null")),
    };
    report::or_raise(None, result())
}
