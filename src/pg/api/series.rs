//! Prices as of times, prices after trades, and bars, which `sql/series.sql` declares. Each adds its rows to the result
//! of the call, so it returns nothing itself.

use pgrx::AnyNumeric;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::series;
use crate::pg::series::bars::Question;
use crate::pg::session::ffi::ResultRows;
use crate::pg::session::{guc, report};

fn wrong(what: &str) -> Error {
    Error::InvalidArgument { what: what.into() }
}

/// Converts an interval without months to microseconds.
fn microseconds(name: &str, interval: &Interval) -> Result<i64> {
    if interval.months() != 0 {
        return Err(wrong(&format!("{name} must have no months, which differ in length")));
    }
    i64::try_from(interval.as_micros()).map_err(|_| wrong(&format!("{name} is too long")))
}

/// Returns both ends of a range in microseconds since 2000.
fn range(from: Option<TimestampWithTimeZone>, to: Option<TimestampWithTimeZone>) -> Result<(i64, i64)> {
    match from.map(i64::from).zip(to.map(i64::from)) {
        None => Err(wrong("from and to must not be null")),
        Some((from, to)) if from >= to => Err(wrong("the range must begin before it ends")),
        Some(range) => Ok(range),
    }
}

fn symbol(symbol: Option<&str>) -> Result<&str> {
    symbol.ok_or_else(|| wrong("symbol must not be null"))
}

#[pg_extern(sql = false)]
fn prices_at(
    symbol: Option<&str>,
    times: Option<Vec<Option<TimestampWithTimeZone>>>,
    tolerance: Option<Interval>,
    call: pg_sys::FunctionCallInfo,
) {
    let mut rows = ResultRows::begin(call);
    let result = || {
        let times: Option<Vec<i64>> = times.unwrap_or_default().into_iter().map(|time| time.map(i64::from)).collect();
        let times = times.ok_or_else(|| wrong("times must not have a null in it"))?;
        let tolerance = tolerance.map(|tolerance| microseconds("tolerance", &tolerance)).transpose()?;
        series::prices::prices_at(self::symbol(symbol)?, times, tolerance, &mut rows)
    };
    report::or_raise(None, result());
}

#[pg_extern(sql = false)]
fn markouts(
    symbol: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    horizons: Option<Vec<Option<Interval>>>,
    call: pg_sys::FunctionCallInfo,
) {
    let mut rows = ResultRows::begin(call);
    let result = || {
        let null = || wrong("horizons must not have a null in it");
        let horizons = horizons.unwrap_or_default().into_iter();
        let horizons: Result<Vec<i64>> =
            horizons.map(|horizon| microseconds("a horizon", &horizon.ok_or_else(null)?)).collect();
        let memory = guc::limits().memory;
        series::markouts::markouts(self::symbol(symbol)?, range(from, to)?, &horizons?, memory, &mut rows)
    };
    report::or_raise(None, result());
}

#[pg_extern(sql = false)]
fn bars(
    symbol: Option<&str>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
    kind: Option<&str>,
    size: Option<AnyNumeric>,
    after: Option<i64>,
    call: pg_sys::FunctionCallInfo,
) {
    let mut rows = ResultRows::begin(call);
    let result = || {
        let size = size.ok_or_else(|| wrong("size must not be null"))?.to_string();
        let question = Question {
            symbol: self::symbol(symbol)?,
            range: range(from, to)?,
            kind: kind.unwrap_or_default().parse()?,
            size: &size,
            after,
        };
        series::bars::bars(&question, &mut rows)
    };
    report::or_raise(None, result());
}
