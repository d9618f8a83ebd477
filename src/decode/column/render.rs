//! The values of a bad row as text, for `landing.rejected_ticks`.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int32Type, Int64Type};
use serde_json::Value;

use super::time::{int96, shown};
use super::values::{integer32, integer64, micros};
use crate::decode::decimal;
use crate::decode::schema::{Column, Kind};

/// The longest text that is kept of one value.
const MAX_CHARS: usize = 1000;

/// Returns the value at `row` as a JSON string, or JSON null.
pub(in crate::decode) fn render(column: &Column, array: &dyn Array, row: usize) -> Value {
    if row >= array.len() || array.is_null(row) {
        return Value::Null;
    }
    let signed = column.kind.is_signed();
    Value::String(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int32 => number(column.kind, integer32(array.as_primitive::<Int32Type>().value(row), signed)),
        DataType::Int64 => number(column.kind, integer64(array.as_primitive::<Int64Type>().value(row), signed)),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::BinaryView => bytes(column.kind, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => bytes(column.kind, array.as_fixed_size_binary().value(row)),
        other => format!("a value of type {other}"),
    })
}

fn number(kind: Kind, value: i128) -> String {
    match kind {
        Kind::Time { unit, .. } => {
            i64::try_from(value).ok().and_then(|value| shown(micros(value, unit)?)).unwrap_or_else(|| value.to_string())
        }
        Kind::Decimal { scale } => with_point(value, scale as usize),
        _ => value.to_string(),
    }
}

fn bytes(kind: Kind, value: &[u8]) -> String {
    match kind {
        Kind::Text => text(value),
        Kind::Int96 => int96(value).and_then(shown).unwrap_or_else(|| hex(value)),
        Kind::Decimal { scale } => {
            decimal::from_be_bytes(value, 0, 0).map_or_else(|_| hex(value), |units| with_point(units, scale as usize))
        }
        Kind::Float => match value.first_chunk::<2>() {
            Some(bits) => <Float16Type as ArrowPrimitiveType>::Native::from_le_bytes(*bits).to_f64().to_string(),
            None => hex(value),
        },
        _ => hex(value),
    }
}

fn with_point(units: i128, scale: usize) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Returns the text. Characters that jsonb cannot hold are replaced.
fn text(value: &[u8]) -> String {
    // A character has at most four bytes. One that this cut splits lies behind MAX_CHARS, so it is dropped as well.
    let value = &value[..value.len().min(MAX_CHARS * 4)];
    String::from_utf8_lossy(value).chars().take(MAX_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

fn hex(value: &[u8]) -> String {
    let digits: String = value.iter().take((MAX_CHARS - 2) / 2).map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_show_their_point() {
        assert_eq!(with_point(-5, 3), "-0.005");
        assert_eq!(with_point(123_456, 2), "1234.56");
        assert_eq!(with_point(7, 0), "7");
    }

    #[test]
    fn text_is_cut_and_made_fit_for_jsonb() {
        assert_eq!(text(b"a\0\xffb"), "a\u{fffd}\u{fffd}b");
        assert_eq!(text("é".repeat(5000).as_bytes()).chars().count(), MAX_CHARS);
    }
}
