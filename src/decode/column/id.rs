//! Trade ids as 64-bit integers.

use arrow::array::{Array, Int32Array, Int64Array};
use parquet::basic::Type as Physical;

use super::float::Floats;
use super::values::{Bad, IS_NULL, Values, cast, for_each, id_problem, integer32, integer64};
use crate::decode::damage::damaged;
use crate::decode::decimal::{self, Misfit};
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;

/// Appends one trade id per row.
pub(in crate::decode) fn trade_ids(
    column: &Column,
    array: &dyn Array,
    out: &mut Vec<i64>,
    bad: &mut Bad,
) -> Result<()> {
    let signed = column.kind.is_signed();
    match (column.kind, column.physical) {
        (Kind::Text, _) => {
            let values = Values::views(array)?;
            fill(array, out, bad, |row| decimal::integer_from_text(values.get(row)));
        }
        (Kind::Float, _) => {
            let floats = Floats::of(column, array)?;
            out.reserve(array.len());
            for_each(
                array,
                |row| floats.whole(row),
                |row, id| {
                    if let Some(Ok(Some(id))) = id {
                        return out.push(id);
                    }
                    bad.push(row, Tick::TradeId, id.and_then(std::result::Result::err).unwrap_or(IS_NULL));
                    out.push(0);
                },
            );
        }
        (_, Physical::INT32) => {
            let values = cast::<Int32Array>(array)?.values();
            fill(array, out, bad, |row| Ok(integer32(values[row], signed)));
        }
        (_, Physical::INT64) => {
            let values = cast::<Int64Array>(array)?.values();
            fill(array, out, bad, |row| Ok(integer64(values[row], signed)));
        }
        (Kind::Decimal { .. }, Physical::BYTE_ARRAY) => {
            let values = Values::views(array)?;
            fill(array, out, bad, |row| decimal::from_be_bytes(values.get(row), 0, 0));
        }
        (Kind::Decimal { .. }, Physical::FIXED_LEN_BYTE_ARRAY) => {
            let values = Values::fixed(array, column.width)?;
            fill(array, out, bad, |row| decimal::from_be_bytes(values.get(row), 0, 0));
        }
        _ => return Err(damaged("a trade id has a type that is not read as an id")),
    }
    Ok(())
}

#[inline]
fn fill(array: &dyn Array, out: &mut Vec<i64>, bad: &mut Bad, id: impl Fn(usize) -> std::result::Result<i128, Misfit>) {
    out.reserve(array.len());
    for_each(array, id, |row, id| {
        let problem = match id {
            Some(Ok(id)) => match i64::try_from(id) {
                Ok(id) => return out.push(id),
                Err(_) => id_problem(Misfit::TooLarge),
            },
            Some(Err(misfit)) => id_problem(misfit),
            None => IS_NULL,
        };
        bad.push(row, Tick::TradeId, problem);
        out.push(0);
    });
}
