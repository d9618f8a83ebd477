//! Flags: whether the buyer was the maker.

use arrow::array::{Array, BooleanArray, Int32Array, Int64Array};
use parquet::basic::Type as Physical;

use super::float::Floats;
use super::values::{Bad, Values, cast, for_each};
use crate::decode::damage::damaged;
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;

const NO_FLAG: &str = "is neither true nor false";

/// Appends one flag per row. Null stays null.
pub(in crate::decode) fn flags(
    column: &Column,
    array: &dyn Array,
    out: &mut Vec<Option<bool>>,
    bad: &mut Bad,
) -> Result<()> {
    match (column.kind, column.physical) {
        (Kind::Flag, _) => {
            let values = cast::<BooleanArray>(array)?.values();
            for_each(array, |row| values.value(row), |_, flag| out.push(flag));
        }
        (Kind::Integer { .. }, Physical::INT32) => {
            let values = cast::<Int32Array>(array)?.values();
            fill(array, out, bad, |row| from_integer(i64::from(values[row])));
        }
        (Kind::Integer { .. }, Physical::INT64) => {
            let values = cast::<Int64Array>(array)?.values();
            fill(array, out, bad, |row| from_integer(values[row]));
        }
        (Kind::Float, _) => {
            let floats = Floats::of(column, array)?;
            for_each(
                array,
                |row| floats.whole(row),
                |row, value| {
                    let flag = from_float(value);
                    if let Err(reason) = flag {
                        bad.push(row, Tick::IsMarketMaker, reason);
                    }
                    out.push(flag.unwrap_or_default());
                },
            );
        }
        (Kind::Text, _) => {
            let values = Values::views(array)?;
            fill(array, out, bad, |row| from_text(values.get(row)));
        }
        _ => return Err(damaged("a flag has a type that is not read as a flag")),
    }
    Ok(())
}

/// Converts a float that was read as a whole number. NaN is null; an error stands for a number that is no flag.
fn from_float(
    value: Option<std::result::Result<Option<i64>, &str>>,
) -> std::result::Result<Option<bool>, &'static str> {
    match value {
        None | Some(Ok(None)) => Ok(None),
        Some(Ok(Some(number))) => from_integer(number).map(Some).ok_or(NO_FLAG),
        Some(Err(_)) => Err(NO_FLAG),
    }
}

fn from_integer(value: i64) -> Option<bool> {
    match value {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn from_text(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"t") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") || text.eq_ignore_ascii_case(b"f") => Some(false),
        _ => None,
    }
}

#[inline]
fn fill(array: &dyn Array, out: &mut Vec<Option<bool>>, bad: &mut Bad, flag: impl Fn(usize) -> Option<bool>) {
    for_each(array, flag, |row, flag| match flag {
        Some(None) => {
            bad.push(row, Tick::IsMarketMaker, NO_FLAG);
            out.push(None);
        }
        Some(flag) => out.push(flag),
        None => out.push(None),
    });
}
