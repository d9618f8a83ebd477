//! Prices and quantities as integers that count units of their scale.

use arrow::array::{Array, Float32Array, Float64Array, Int32Array, Int64Array};
use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use parquet::basic::Type as Physical;

use super::values::{Bad, IS_NULL, Values, cast, for_each, integer32, integer64};
use crate::decode::damage::damaged;
use crate::decode::decimal::{self, Misfit};
use crate::decode::schema::{Column, Kind, Tick};
use crate::error::Result;
use crate::model::tick::{PRICE_END, PRICE_SCALE, QUANTITY_END, QUANTITY_SCALE};

/// The differences between a price and a quantity.
pub(in crate::decode) trait Amount {
    /// The integer that holds the units.
    type Units: Default;
    const TICK: Tick;
    const SCALE: u32;
    const TOO_FINE: &'static str;
    const TOO_LARGE: &'static str;

    /// Returns the units if they are below the end of the range.
    fn below_end(units: i128) -> Option<Self::Units>;
}

/// numeric(18,8).
pub(in crate::decode) struct Price;
/// numeric(24,12).
pub(in crate::decode) struct Quantity;

impl Amount for Price {
    type Units = i64;
    const TICK: Tick = Tick::Price;
    const SCALE: u32 = PRICE_SCALE;
    const TOO_FINE: &'static str = "has more than 8 decimal places";
    const TOO_LARGE: &'static str = "is out of range for numeric(18,8)";

    #[inline]
    fn below_end(units: i128) -> Option<i64> {
        (units < i128::from(PRICE_END)).then_some(units as i64)
    }
}

impl Amount for Quantity {
    type Units = i128;
    const TICK: Tick = Tick::Quantity;
    const SCALE: u32 = QUANTITY_SCALE;
    const TOO_FINE: &'static str = "has more than 12 decimal places";
    const TOO_LARGE: &'static str = "is out of range for numeric(24,12)";

    #[inline]
    fn below_end(units: i128) -> Option<i128> {
        (units < QUANTITY_END).then_some(units)
    }
}

const NOT_POSITIVE: &str = "is not above zero";
const NOT_A_NUMBER: &str = "is not a number";

/// Appends one amount per row.
pub(in crate::decode) fn amounts<A: Amount>(
    column: &Column,
    array: &dyn Array,
    out: &mut Vec<A::Units>,
    bad: &mut Bad,
) -> Result<()> {
    let (to, from) = (A::SCALE, scale(column.kind));
    let signed = column.kind.is_signed();
    match (column.kind, column.physical) {
        (Kind::Text, _) => {
            let values = Values::views(array)?;
            fill::<A>(array, out, bad, |row| decimal::from_text(values.get(row), to));
        }
        (Kind::Decimal { .. } | Kind::Integer { .. }, Physical::INT32) => {
            let values = cast::<Int32Array>(array)?.values();
            fill::<A>(array, out, bad, |row| decimal::rescale(integer32(values[row], signed), from, to));
        }
        (Kind::Decimal { .. } | Kind::Integer { .. }, Physical::INT64) => {
            let values = cast::<Int64Array>(array)?.values();
            fill::<A>(array, out, bad, |row| decimal::rescale(integer64(values[row], signed), from, to));
        }
        (Kind::Decimal { .. }, Physical::BYTE_ARRAY) => {
            let values = Values::views(array)?;
            fill::<A>(array, out, bad, |row| decimal::from_be_bytes(values.get(row), from, to));
        }
        (Kind::Decimal { .. }, Physical::FIXED_LEN_BYTE_ARRAY) => {
            let values = Values::fixed(array, column.width)?;
            fill::<A>(array, out, bad, |row| decimal::from_be_bytes(values.get(row), from, to));
        }
        (Kind::Float, Physical::DOUBLE) => {
            let values = cast::<Float64Array>(array)?.values();
            fill::<A>(array, out, bad, |row| decimal::from_f64(values[row], to));
        }
        (Kind::Float, Physical::FLOAT) => {
            let values = cast::<Float32Array>(array)?.values();
            fill::<A>(array, out, bad, |row| decimal::from_f32(values[row], to));
        }
        (Kind::Float, Physical::FIXED_LEN_BYTE_ARRAY) => {
            let values = Values::fixed(array, 2)?;
            fill::<A>(array, out, bad, |row| half(values.get(row), to));
        }
        _ => return Err(damaged("an amount has a type that is not read as an amount")),
    }
    Ok(())
}

fn scale(kind: Kind) -> u32 {
    match kind {
        Kind::Decimal { scale } => scale,
        _ => 0,
    }
}

fn half(bytes: &[u8], scale: u32) -> std::result::Result<i128, Misfit> {
    type Half = <Float16Type as ArrowPrimitiveType>::Native;
    let bits = bytes.first_chunk::<2>().map_or(0, |bytes| u16::from_le_bytes(*bytes));
    let reads_back = |value: f64| Half::from_f64(value).to_bits() == bits;
    decimal::from_f16(Half::from_bits(bits).to_f64(), reads_back, scale)
}

#[inline]
fn fill<A: Amount>(
    array: &dyn Array,
    out: &mut Vec<A::Units>,
    bad: &mut Bad,
    units: impl Fn(usize) -> std::result::Result<i128, Misfit>,
) {
    out.reserve(array.len());
    for_each(array, units, |row, units| {
        let problem = match units {
            Some(Ok(units)) if units > 0 => match A::below_end(units) {
                Some(units) => return out.push(units),
                None => A::TOO_LARGE,
            },
            Some(Ok(_) | Err(Misfit::Negative)) => NOT_POSITIVE,
            Some(Err(Misfit::NotANumber)) => NOT_A_NUMBER,
            Some(Err(Misfit::TooFine)) => A::TOO_FINE,
            Some(Err(Misfit::TooLarge)) => A::TOO_LARGE,
            None => IS_NULL,
        };
        bad.push(row, A::TICK, problem);
        out.push(Default::default());
    });
}
