//! Floating-point numbers as whole numbers. Pandas makes DOUBLE of a column of integers that holds a null.

use arrow::array::{Array, Float32Array, Float64Array};
use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use parquet::basic::Type as Physical;

use super::values::{Values, cast};
use crate::decode::schema::Column;
use crate::error::Result;

const NOT_WHOLE: &str = "is not a whole number";
const NOT_EXACT: &str = "is too large for a floating-point column to hold it exactly";

/// The numbers of a column of type DOUBLE, FLOAT or FLOAT16.
pub(super) enum Floats<'a> {
    Double(&'a [f64]),
    Float(&'a [f32]),
    Half(Values<'a>),
}

impl<'a> Floats<'a> {
    pub fn of(column: &Column, array: &'a dyn Array) -> Result<Self> {
        Ok(match column.physical {
            Physical::DOUBLE => Floats::Double(cast::<Float64Array>(array)?.values()),
            Physical::FLOAT => Floats::Float(cast::<Float32Array>(array)?.values()),
            _ => Floats::Half(Values::fixed(array, 2)?),
        })
    }

    #[inline]
    fn value(&self, row: usize) -> f64 {
        match self {
            Floats::Double(values) => values[row],
            Floats::Float(values) => f64::from(values[row]),
            Floats::Half(values) => {
                let bits = values.get(row).first_chunk::<2>().copied().unwrap_or_default();
                <Float16Type as ArrowPrimitiveType>::Native::from_le_bytes(bits).to_f64()
            }
        }
    }

    /// Returns the first whole number that may stand for another one as well, which the type rounds to it.
    fn end_of_exact(&self) -> f64 {
        let digits = match self {
            Floats::Double(_) => f64::MANTISSA_DIGITS,
            Floats::Float(_) => f32::MANTISSA_DIGITS,
            Floats::Half(_) => 11,
        };
        (1u64 << digits) as f64
    }

    /// Returns the whole number at `row`, or `None` for NaN, which stands for null.
    #[inline]
    pub fn whole(&self, row: usize) -> std::result::Result<Option<i64>, &'static str> {
        let value = self.value(row);
        if value.is_nan() {
            return Ok(None);
        }
        if value.is_infinite() || value.fract() != 0.0 {
            return Err(NOT_WHOLE);
        }
        if value.abs() >= self.end_of_exact() {
            return Err(NOT_EXACT);
        }
        Ok(Some(value as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_whole_numbers_as_far_as_they_are_exact() {
        let values = [7.0, -0.0, 9_007_199_254_740_991.0, -9_007_199_254_740_991.0, f64::NAN];
        let read: Vec<_> = (0..5).map(|row| Floats::Double(&values).whole(row)).collect();
        let most = (1 << 53) - 1;
        assert_eq!(read, [Ok(Some(7)), Ok(Some(0)), Ok(Some(most)), Ok(Some(-most)), Ok(None)]);
        for (value, problem) in
            [(0.5, NOT_WHOLE), (f64::INFINITY, NOT_WHOLE), (9_007_199_254_740_992.0, NOT_EXACT), (-1e300, NOT_EXACT)]
        {
            assert_eq!(Floats::Double(&[value]).whole(0), Err(problem), "{value}");
        }
    }

    #[test]
    fn narrow_floats_are_exact_up_to_less() {
        assert_eq!(Floats::Float(&[16_777_215.0]).whole(0), Ok(Some(16_777_215)));
        assert_eq!(Floats::Float(&[16_777_216.0]).whole(0), Err(NOT_EXACT));
        // FLOAT16: 2047 and 2048.
        let bytes = [0xff, 0x67, 0x00, 0x68];
        assert_eq!(Floats::Half(Values::Fixed(&bytes, 2)).whole(0), Ok(Some(2047)));
        assert_eq!(Floats::Half(Values::Fixed(&bytes, 2)).whole(1), Err(NOT_EXACT));
    }
}
