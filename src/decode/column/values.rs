//! What the readers of all tick columns share: rows that are no ticks, and access to an array's values.

use std::borrow::Cow;

use arrow::array::{Array, BinaryViewArray, FixedSizeBinaryArray};

use crate::decode::damage::damaged;
use crate::decode::decimal::Misfit;
use crate::decode::schema::Tick;
use crate::error::Result;
use crate::model::options::TimeUnit;

pub(super) const IS_NULL: &str = "is null";

/// The rows of a block that are no ticks. For each row the first problem counts.
#[derive(Debug, Default)]
pub(in crate::decode) struct Bad {
    rows: Vec<(u32, Tick, Cow<'static, str>)>,
}

impl Bad {
    #[cold]
    pub fn push(&mut self, row: usize, tick: Tick, problem: impl Into<Cow<'static, str>>) {
        self.rows.push((row as u32, tick, problem.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the bad rows with their reasons, each row once, in order.
    pub fn take(&mut self) -> Vec<(u32, String)> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_key(|(row, ..)| *row);
        rows.dedup_by_key(|(row, ..)| *row);
        rows.into_iter().map(|(row, tick, problem)| (row, format!("{} {problem}", tick.name()))).collect()
    }
}

/// Calls `each` with every row and its value, or with `None` for null. An array without nulls takes a loop that tests
/// for none.
#[inline]
pub(super) fn for_each<T>(array: &dyn Array, value: impl Fn(usize) -> T, mut each: impl FnMut(usize, Option<T>)) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => (0..array.len()).for_each(|row| each(row, Some(value(row)))),
        Some(nulls) => (0..array.len()).for_each(|row| each(row, nulls.is_valid(row).then(|| value(row)))),
    }
}

/// Casts the array to the type that `chunk::levels` asked the decoder for.
pub(super) fn cast<A: 'static>(array: &dyn Array) -> Result<&A> {
    array.as_any().downcast_ref().ok_or_else(|| damaged("a column was decoded as another type"))
}

/// The bytes of each value of a column of strings or of fixed width.
pub(super) enum Values<'a> {
    Views(&'a BinaryViewArray),
    Fixed(&'a [u8], usize),
}

impl<'a> Values<'a> {
    pub fn views(array: &'a dyn Array) -> Result<Self> {
        Ok(Values::Views(cast(array)?))
    }

    pub fn fixed(array: &'a dyn Array, width: usize) -> Result<Self> {
        let fixed: &FixedSizeBinaryArray = cast(array)?;
        let bytes = fixed.value_data();
        if width == 0 || bytes.len() < width * array.len() {
            return Err(damaged("a column holds fewer bytes than its values need"));
        }
        Ok(Values::Fixed(bytes, width))
    }

    #[inline]
    pub fn get(&self, row: usize) -> &'a [u8] {
        match self {
            Values::Views(views) => views.value(row),
            Values::Fixed(bytes, width) => &bytes[row * width..(row + 1) * width],
        }
    }
}

/// Widens an integer of a 4-byte column, which is signed or not.
#[inline]
pub(in crate::decode) fn integer32(value: i32, signed: bool) -> i128 {
    if signed { i128::from(value) } else { i128::from(value as u32) }
}

/// Widens an integer of an 8-byte column, which is signed or not.
#[inline]
pub(in crate::decode) fn integer64(value: i64, signed: bool) -> i128 {
    if signed { i128::from(value) } else { i128::from(value as u64) }
}

/// Converts a time in `unit` to microseconds. Nanoseconds are rounded down to the microsecond that they lie in.
#[inline]
pub(in crate::decode) fn micros(value: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Milli => value.checked_mul(1_000),
        TimeUnit::Micro => Some(value),
        TimeUnit::Nano => Some(value.div_euclid(1_000)),
    }
}

/// Says what is wrong with a value where a 64-bit integer is expected.
pub(super) fn id_problem(misfit: Misfit) -> &'static str {
    match misfit {
        Misfit::NotANumber | Misfit::TooFine => "is not a whole number",
        Misfit::TooLarge | Misfit::Negative => "is out of range for bigint",
    }
}
