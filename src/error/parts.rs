//! What errors are made of beside numbers and names, and how a message shows it.

use std::fmt;

/// One column of a file that does not fit the tick's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The tick column, e.g. `price`.
    pub column: &'static str,
    /// What is wrong with it, e.g. `is BOOLEAN, expected a decimal, string, integer or floating-point column`.
    pub problem: String,
}

/// The position of a row in its object. All numbers count from 0, as Parquet tools do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPosition {
    /// The row group.
    pub row_group: u32,
    /// The row, counted from the start of the object.
    pub row: u64,
}

impl fmt::Display for RowPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} (row group {})", self.row, self.row_group)
    }
}

/// Lists every mismatch.
pub(super) fn join(mismatches: &[Mismatch]) -> String {
    let parts: Vec<String> = mismatches.iter().map(|m| format!("{} {}", m.column, m.problem)).collect();
    parts.join("; ")
}

/// Names a storage class, as the end of a sentence.
pub(super) fn class_of(class: Option<&str>) -> String {
    class.map(|class| format!(" (storage class {class})")).unwrap_or_default()
}

/// Names a sufficient `btc_ingest.memory_limit` in whole megabytes, as the end of a sentence.
pub(super) fn enough(suffices: Option<u64>) -> String {
    suffices.map_or(String::new(), |bytes| {
        format!("; btc_ingest.memory_limit = '{}MB' is enough for this file", bytes.div_ceil(1 << 20))
    })
}

/// Lists columns in quotes.
pub(super) fn quoted(columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(" and ")
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Mismatch};

    #[test]
    fn the_message_of_a_schema_mismatch_names_every_column() {
        let error = Error::SchemaMismatch {
            mismatches: vec![
                Mismatch { column: "price", problem: "is missing".into() },
                Mismatch { column: "trade_id", problem: "is BOOLEAN".into() },
            ],
            found: "a INT32".into(),
        };
        assert_eq!(error.to_string(), "the file's columns do not make ticks: price is missing; trade_id is BOOLEAN");
    }
}
