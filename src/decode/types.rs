//! Parquet's older and newer type annotations as one type, and their names as Parquet tools print them.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit as ParquetUnit, Type as Physical};
use parquet::schema::types::ColumnDescriptor;

use crate::model::options::TimeUnit;

/// The annotation of a leaf column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Logical {
    /// No annotation.
    Bare,
    /// Text: STRING, JSON or ENUM.
    Text(&'static str),
    /// An integer of this many bits.
    Integer { bits: u8, signed: bool },
    /// An integer counted in units of 10^-scale.
    Decimal { precision: i32, scale: i32 },
    /// A time in UTC, or in an unnamed zone that is read as UTC.
    Timestamp { unit: TimeUnit, utc: bool },
    /// Half precision in two bytes.
    Float16,
    /// All values are null.
    Null,
    /// An annotation that no tick column can have.
    Other(String),
}

impl Logical {
    /// Returns the annotation of a column. The newer kind has priority.
    pub fn of(column: &ColumnDescriptor) -> Logical {
        match column.logical_type_ref() {
            Some(logical) => Logical::new_kind(logical),
            None => Logical::old_kind(column),
        }
    }

    fn new_kind(logical: &LogicalType) -> Logical {
        match logical {
            LogicalType::String => Logical::Text("STRING"),
            LogicalType::Json => Logical::Text("JSON"),
            LogicalType::Enum => Logical::Text("ENUM"),
            LogicalType::Integer(int) => Logical::Integer { bits: int.bit_width as u8, signed: int.is_signed },
            LogicalType::Decimal(decimal) => Logical::Decimal { precision: decimal.precision, scale: decimal.scale },
            LogicalType::Timestamp(time) => {
                let unit = match time.unit {
                    ParquetUnit::MILLIS => TimeUnit::Milli,
                    ParquetUnit::MICROS => TimeUnit::Micro,
                    ParquetUnit::NANOS => TimeUnit::Nano,
                };
                Logical::Timestamp { unit, utc: time.is_adjusted_to_u_t_c }
            }
            LogicalType::Float16 => Logical::Float16,
            LogicalType::Unknown => Logical::Null,
            LogicalType::Date => Logical::Other("DATE".into()),
            LogicalType::Time(_) => Logical::Other("TIME".into()),
            LogicalType::Uuid => Logical::Other("UUID".into()),
            LogicalType::Bson => Logical::Other("BSON".into()),
            other => Logical::Other(format!("{other:?}").chars().take(40).collect()),
        }
    }

    fn old_kind(column: &ColumnDescriptor) -> Logical {
        let integer = |bits, signed| Logical::Integer { bits, signed };
        match column.converted_type() {
            ConvertedType::NONE => Logical::Bare,
            ConvertedType::UTF8 => Logical::Text("STRING"),
            ConvertedType::JSON => Logical::Text("JSON"),
            ConvertedType::ENUM => Logical::Text("ENUM"),
            ConvertedType::INT_8 => integer(8, true),
            ConvertedType::INT_16 => integer(16, true),
            ConvertedType::INT_32 => integer(32, true),
            ConvertedType::INT_64 => integer(64, true),
            ConvertedType::UINT_8 => integer(8, false),
            ConvertedType::UINT_16 => integer(16, false),
            ConvertedType::UINT_32 => integer(32, false),
            ConvertedType::UINT_64 => integer(64, false),
            ConvertedType::DECIMAL => {
                // A missing scale means 0 in the format; the parquet crate returns -1.
                Logical::Decimal { precision: column.type_precision(), scale: column.type_scale().max(0) }
            }
            ConvertedType::TIMESTAMP_MILLIS => Logical::Timestamp { unit: TimeUnit::Milli, utc: true },
            ConvertedType::TIMESTAMP_MICROS => Logical::Timestamp { unit: TimeUnit::Micro, utc: true },
            other => Logical::Other(other.to_string()),
        }
    }

    fn name(&self) -> Option<String> {
        Some(match self {
            Logical::Bare => return None,
            Logical::Text(name) => (*name).into(),
            Logical::Integer { bits, signed } => format!("{}INTEGER({bits})", if *signed { "" } else { "U" }),
            Logical::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
            Logical::Timestamp { unit, utc } => {
                let unit = match unit {
                    TimeUnit::Second => "SECONDS",
                    TimeUnit::Milli => "MILLIS",
                    TimeUnit::Micro => "MICROS",
                    TimeUnit::Nano => "NANOS",
                };
                format!("TIMESTAMP({unit},{})", if *utc { "UTC" } else { "LOCAL" })
            }
            Logical::Float16 => "FLOAT16".into(),
            Logical::Null => "NULL".into(),
            Logical::Other(name) => name.clone(),
        })
    }
}

/// Returns a leaf column's type as text, e.g. `INT64 TIMESTAMP(MILLIS,UTC)`. REPEATED means that a row may hold several
/// values.
pub(super) fn type_name(column: &ColumnDescriptor) -> String {
    let physical = match column.physical_type() {
        Physical::FIXED_LEN_BYTE_ARRAY => format!("FIXED_LEN_BYTE_ARRAY({})", column.type_length()),
        other => other.to_string(),
    };
    let logical = Logical::of(column).name().map(|name| format!(" {name}")).unwrap_or_default();
    let repeated = if column.max_rep_level() > 0 { "REPEATED " } else { "" };
    format!("{repeated}{physical}{logical}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    #[test]
    fn types_are_named_as_parquet_tools_name_them() {
        let schema = "message m {
            required int64 a (TIMESTAMP(MILLIS,true));
            required int64 b (TIMESTAMP_MICROS);
            optional fixed_len_byte_array(9) c (DECIMAL(18,8));
            optional binary d (UTF8);
            required int32 e (INTEGER(16,false));
            required double f;
            required int96 g;
            repeated int32 h;
            optional group i (LIST) { repeated group list { optional binary element (UTF8); } }
        }";
        let schema = SchemaDescriptor::new(Arc::new(parse_message_type(schema).unwrap()));
        let names: Vec<String> = schema.columns().iter().map(|column| type_name(column)).collect();
        assert_eq!(
            names,
            [
                "INT64 TIMESTAMP(MILLIS,UTC)",
                "INT64 TIMESTAMP(MICROS,UTC)",
                "FIXED_LEN_BYTE_ARRAY(9) DECIMAL(18,8)",
                "BYTE_ARRAY STRING",
                "INT32 UINTEGER(16)",
                "DOUBLE",
                "INT96",
                "REPEATED INT32",
                "REPEATED BYTE_ARRAY STRING"
            ]
        );
    }
}
