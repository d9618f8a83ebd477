//! Candles, which `sql/candles.sql` declares.

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::model::candles::{CandleTime, CandleWidth};
use crate::pg::candles::{beside, commands};
use crate::pg::session::report;
use crate::pg::session::target::as_owner;

/// Converts an interval without months to microseconds.
fn microseconds(name: &str, interval: Option<Interval>) -> Result<i64> {
    let wrong = |why: &str| Error::InvalidArgument { what: format!("{name} {why}") };
    let interval = interval.ok_or_else(|| wrong("must not be null"))?;
    if interval.months() != 0 {
        return Err(wrong("must have no months, which differ in length"));
    }
    i64::try_from(interval.as_micros()).map_err(|_| wrong("is too long"))
}

#[pg_extern(sql = false)]
fn create_candles(
    width: Option<Interval>,
    name: Option<&str>,
    by: Option<&str>,
    chunk_interval: Option<Interval>,
) -> String {
    let result = || {
        let width = CandleWidth::new(microseconds("width", width)?)?;
        let by: CandleTime = by.unwrap_or(CandleTime::Event.as_str()).parse()?;
        let chunk = microseconds("chunk_interval", chunk_interval)?;
        if chunk < width.as_us() {
            return Err(Error::InvalidArgument { what: "chunk_interval must not be shorter than a candle".into() });
        }
        commands::create(width, name, by, chunk)
    };
    report::or_raise(None, result())
}

#[pg_extern(sql = false)]
fn drop_candles(name: Option<&str>) -> String {
    report::or_raise(None, commands::drop_named(name.unwrap_or_default()))
}

#[pg_extern(sql = false)]
fn want_candles(from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>) -> i64 {
    let from = from.unwrap_or_else(TimestampWithTimeZone::negative_infinity);
    let to = to.unwrap_or_else(TimestampWithTimeZone::positive_infinity);
    report::or_raise(None, commands::want(from, to))
}

#[pg_extern(sql = false)]
fn fill_beside_dropped(from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>) -> bool {
    report::or_raise(None, as_owner(|client, _| beside::fill(client, from.zip(to))))
}
