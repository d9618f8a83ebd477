//! Symbols and order ids.

use arrow::array::{Array, Int32Array, Int64Array};
use parquet::basic::Type as Physical;

use super::{Bad, IS_NULL, Values, cast, for_each, id_problem, integer32, integer64};
use crate::decode::damaged;
use crate::decode::decimal;
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;
use crate::model::tick::{MAX_TEXT, Symbols, TextColumn};

/// Appends the number of each row's symbol. Ticks of one symbol come in runs, so the last one is remembered.
pub(in crate::decode) fn symbols(
    array: &dyn Array,
    names: &mut Symbols,
    out: &mut Vec<u32>,
    bad: &mut Bad,
) -> Result<()> {
    let values = Values::views(array)?;
    let mut last: (&[u8], u32) = (&[], 0);
    let mut failed = None;
    out.reserve(array.len());
    for_each(
        array,
        |row| values.get(row),
        |row, name| {
            let problem = match name {
                Some(name) if name == last.0 && !name.is_empty() => return out.push(last.1),
                Some([]) => "is empty",
                Some(name) => match checked(name) {
                    Ok(text) => match names.number(text) {
                        Ok(number) => {
                            last = (name, number);
                            return out.push(number);
                        }
                        Err(error) => {
                            failed.get_or_insert(error);
                            return out.push(0);
                        }
                    },
                    Err(problem) => problem,
                },
                None => IS_NULL,
            };
            bad.push(row, Tick::Symbol, problem);
            out.push(0);
        },
    );
    failed.map_or(Ok(()), Err)
}

/// Appends each row's order id as text.
pub(in crate::decode) fn order_ids(
    tick: Tick,
    column: &Column,
    array: &dyn Array,
    out: &mut TextColumn,
    bad: &mut Bad,
) -> Result<()> {
    let signed = column.kind.is_signed();
    match (column.kind, column.physical) {
        (Kind::Text, _) => {
            let values = Values::views(array)?;
            for_each(
                array,
                |row| values.get(row),
                |row, id| match id.map(checked) {
                    Some(Err(problem)) => {
                        bad.push(row, tick, problem);
                        out.push(None);
                    }
                    _ => out.push(id),
                },
            );
        }
        (_, Physical::INT32) => {
            let values = cast::<Int32Array>(array)?.values();
            for_each(array, |row| integer32(values[row], signed), |_, id| push_number(out, id));
        }
        (_, Physical::INT64) => {
            let values = cast::<Int64Array>(array)?.values();
            for_each(array, |row| integer64(values[row], signed), |_, id| push_number(out, id));
        }
        (Kind::Decimal { .. }, physical) => {
            let values = match physical {
                Physical::BYTE_ARRAY => Values::views(array)?,
                _ => Values::fixed(array, column.width)?,
            };
            for_each(
                array,
                |row| decimal::from_be_bytes(values.get(row), 0, 0),
                |row, id| match id.transpose() {
                    Ok(id) => push_number(out, id),
                    Err(misfit) => {
                        bad.push(row, tick, id_problem(misfit));
                        out.push(None);
                    }
                },
            );
        }
        _ => return Err(damaged("an order id has no id's type")),
    }
    Ok(())
}

/// The text, if PostgreSQL can store it and it is no longer than an index entry may be.
#[inline]
fn checked(text: &[u8]) -> std::result::Result<&str, &'static str> {
    if text.len() > MAX_TEXT {
        return Err("is longer than 255 bytes");
    }
    if text.contains(&0) {
        return Err("contains a zero byte");
    }
    std::str::from_utf8(text).map_err(|_| "is not valid UTF-8")
}

#[inline]
fn push_number(out: &mut TextColumn, number: Option<i128>) {
    let Some(number) = number else { return out.push(None) };
    let mut text = itoa::Buffer::new();
    // 64 bits are far the most frequent, and 128-bit division is slow.
    let text = match i64::try_from(number) {
        Ok(number) => text.format(number),
        Err(_) => text.format(number),
    };
    out.push(Some(text.as_bytes()));
}
