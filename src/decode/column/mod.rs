//! One array of one tick column at a time into plain vectors: the type is looked at once per array, the loop is tight.

mod amount;
mod flag;
mod id;
mod render;
mod text;
mod time;

pub(super) use amount::{Price, Quantity, amounts};
pub(super) use flag::flags;
pub(super) use id::trade_ids;
pub(super) use render::render;
pub(super) use text::{order_ids, symbols};
pub(super) use time::times;

use arrow::array::{Array, BinaryViewArray, FixedSizeBinaryArray};

use super::decimal::Misfit;
use super::schema::Tick;
use crate::error::Result;

/// The rows of a block that are no ticks; the first reason found for a row is the one that is told.
#[derive(Debug, Default)]
pub(super) struct Bad {
    rows: Vec<(u32, Tick, &'static str)>,
}

impl Bad {
    #[cold]
    pub fn push(&mut self, row: usize, tick: Tick, problem: &'static str) {
        self.rows.push((row as u32, tick, problem));
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The bad rows in order, once each.
    pub fn take(&mut self) -> Vec<(u32, String)> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_key(|(row, ..)| *row);
        rows.dedup_by_key(|(row, ..)| *row);
        rows.into_iter().map(|(row, tick, problem)| (row, format!("{} {problem}", tick.name()))).collect()
    }
}

const IS_NULL: &str = "is null";

/// Calls `each` with every row and its value, or `None` for null. Rows without nulls take a loop without tests.
#[inline]
fn for_each<T>(array: &dyn Array, value: impl Fn(usize) -> T, mut each: impl FnMut(usize, Option<T>)) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => (0..array.len()).for_each(|row| each(row, Some(value(row)))),
        Some(nulls) => (0..array.len()).for_each(|row| each(row, nulls.is_valid(row).then(|| value(row)))),
    }
}

/// The array as the type that [`super::chunk::levels`] asked for.
fn cast<A: 'static>(array: &dyn Array) -> Result<&A> {
    array.as_any().downcast_ref().ok_or_else(|| super::damaged("a column was decoded as another type"))
}

/// Bytes of each value, from a column of strings or of fixed width.
enum Values<'a> {
    Views(&'a BinaryViewArray),
    Fixed(&'a [u8], usize),
}

impl<'a> Values<'a> {
    fn views(array: &'a dyn Array) -> Result<Self> {
        Ok(Values::Views(cast(array)?))
    }

    fn fixed(array: &'a dyn Array, width: usize) -> Result<Self> {
        let fixed: &FixedSizeBinaryArray = cast(array)?;
        let bytes = fixed.value_data();
        if width == 0 || bytes.len() < width * array.len() {
            return Err(super::damaged("a column holds fewer bytes than its values need"));
        }
        Ok(Values::Fixed(bytes, width))
    }

    #[inline]
    fn get(&self, row: usize) -> &'a [u8] {
        match self {
            Values::Views(views) => views.value(row),
            Values::Fixed(bytes, width) => &bytes[row * width..(row + 1) * width],
        }
    }
}

/// An integer from a 4- or 8-byte column, read as signed or not.
#[inline]
pub(super) fn integer32(value: i32, signed: bool) -> i128 {
    if signed { i128::from(value) } else { i128::from(value as u32) }
}

#[inline]
pub(super) fn integer64(value: i64, signed: bool) -> i128 {
    if signed { i128::from(value) } else { i128::from(value as u64) }
}

/// What a misfit is called where a whole number of 64 bits is due.
fn id_problem(misfit: Misfit) -> &'static str {
    match misfit {
        Misfit::NotANumber | Misfit::TooFine => "is not a whole number",
        Misfit::TooLarge | Misfit::Negative => "is out of range for bigint",
    }
}
