//! Symbols and order ids.

use arrow::array::{Array, Int32Array, Int64Array};
use parquet::basic::Type as Physical;

use super::float::Floats;
use super::values::{Bad, IS_NULL, Values, cast, for_each, id_problem, integer32, integer64};
use crate::decode::damage::damaged;
use crate::decode::decimal;
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;
use crate::model::tick::{MAX_TEXT, Symbols, TextColumn};

/// Appends the number of each row's symbol.
pub(in crate::decode) fn symbols(
    array: &dyn Array,
    names: &mut Symbols,
    out: &mut Vec<u32>,
    bad: &mut Bad,
) -> Result<()> {
    let values = Values::views(array)?;
    let bytes = |row| values.get(row);
    // Ticks of one symbol come in runs, so only the first tick of a run is looked up.
    let mut last: (&[u8], u32) = (&[], 0);
    let mut failed = None;
    out.reserve(array.len());
    for_each(array, bytes, |row, name| {
        if let Some(name) = name
            && name == last.0
            && !name.is_empty()
        {
            return out.push(last.1);
        }
        let number = match name.map_or(Err(IS_NULL), checked_symbol) {
            Ok(text) => match names.number(text) {
                Ok(number) => {
                    last = (text.as_bytes(), number);
                    number
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    0
                }
            },
            Err(problem) => {
                bad.push(row, Tick::Symbol, problem);
                0
            }
        };
        out.push(number);
    });
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
    let mut refuse = |out: &mut TextColumn, row, problem| {
        bad.push(row, tick, problem);
        out.push(None);
    };
    match (column.kind, column.physical) {
        (Kind::Text, _) => {
            let values = Values::views(array)?;
            let bytes = |row| values.get(row);
            for_each(array, bytes, |row, id| match id.map(checked) {
                Some(Err(problem)) => refuse(out, row, problem),
                _ => out.push(id),
            });
        }
        (Kind::Float, _) => {
            let floats = Floats::of(column, array)?;
            for_each(
                array,
                |row| floats.whole(row),
                |row, id| match id.transpose() {
                    Ok(id) => push_number(out, id.flatten().map(i128::from)),
                    Err(problem) => refuse(out, row, problem),
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
            let number = |row| decimal::from_be_bytes(values.get(row), 0, 0);
            for_each(array, number, |row, id| match id.transpose() {
                Ok(id) => push_number(out, id),
                Err(misfit) => refuse(out, row, id_problem(misfit)),
            });
        }
        _ => return Err(damaged("an order id has a type that is not read as an id")),
    }
    Ok(())
}

#[inline]
fn checked_symbol(name: &[u8]) -> std::result::Result<&str, &'static str> {
    if name.is_empty() { Err("is empty") } else { checked(name) }
}

/// Returns the text if PostgreSQL can store it and it is short enough for an index entry.
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
    // Almost all ids fit 64 bits, and 128-bit division is slow.
    let text = match i64::try_from(number) {
        Ok(number) => text.format(number),
        Err(_) => text.format(number),
    };
    out.push(Some(text.as_bytes()));
}
