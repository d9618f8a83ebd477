//! The mapping from the file's columns to the tick's columns. One error names all mismatches.

use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::schema::types::ColumnDescriptor;

use super::footer::FileMeta;
use super::names::Names;
use super::types::{Logical, type_name};
use crate::error::{Error, Mismatch, Result};
use crate::model::options::{LoadOptions, REQUIRED_COLUMNS, TICK_COLUMNS, TimeUnit};

/// The columns of a tick, numbered as in [`TICK_COLUMNS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    EventTime,
    TradeTime,
    Symbol,
    TradeId,
    Price,
    Quantity,
    BuyerOrderId,
    SellerOrderId,
    IsMarketMaker,
}

impl Tick {
    pub const ALL: [Tick; 9] = [
        Tick::EventTime,
        Tick::TradeTime,
        Tick::Symbol,
        Tick::TradeId,
        Tick::Price,
        Tick::Quantity,
        Tick::BuyerOrderId,
        Tick::SellerOrderId,
        Tick::IsMarketMaker,
    ];

    pub fn name(self) -> &'static str {
        TICK_COLUMNS[self as usize]
    }

    fn is_required(self) -> bool {
        REQUIRED_COLUMNS.contains(&self.name())
    }

    /// Returns how a file whose optional column is unsuitable can be loaded, as the end of a sentence.
    fn how_to_leave_it_out(self) -> String {
        if self.is_required() {
            return String::new();
        }
        format!("; options {{\"columns\": {{\"{}\": null}}}} leaves it out", self.name())
    }

    fn expected(self) -> &'static str {
        match self {
            Tick::EventTime | Tick::TradeTime => "a TIMESTAMP, INT96, integer or floating-point column",
            Tick::Symbol => "a string column",
            Tick::TradeId => "an integer, string, floating-point or DECIMAL column of scale 0",
            Tick::Price | Tick::Quantity => "a decimal, string, integer or floating-point column",
            Tick::BuyerOrderId | Tick::SellerOrderId => {
                "a string, integer, floating-point or DECIMAL column of scale 0"
            }
            Tick::IsMarketMaker => "a BOOLEAN, integer, floating-point or string column",
        }
    }
}

/// How a column's values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Integers since 1970. Unsigned ones use all bits of the physical type.
    Time { unit: TimeUnit, signed: bool },
    /// Whole floating-point numbers since 1970.
    FloatTime { unit: TimeUnit },
    /// Nanoseconds of the day and Julian day in 12 bytes.
    Int96,
    /// Integers. Unsigned ones use all bits of the physical type.
    Integer { signed: bool },
    /// Integers in units of 10^-scale.
    Decimal { scale: u32 },
    /// FLOAT, DOUBLE or the two bytes of a FLOAT16, depending on the physical type.
    Float,
    /// Bytes that should be UTF-8.
    Text,
    /// BOOLEAN.
    Flag,
}

impl Kind {
    /// Returns whether an integer's first bit is its sign.
    pub fn is_signed(self) -> bool {
        !matches!(self, Kind::Time { signed: false, .. } | Kind::Integer { signed: false })
    }
}

/// A column of the file that a load reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its number among the file's leaf columns.
    pub leaf: usize,
    pub physical: Physical,
    /// Bytes of a value if the column fixes them; 12 for INT96, 0 for variable length and booleans.
    pub width: usize,
    pub optional: bool,
    pub kind: Kind,
}

/// The file's column for each column of a tick, if the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    columns: [Option<Column>; 9],
}

impl Mapping {
    pub(super) fn column(&self, tick: Tick) -> Option<&Column> {
        self.columns[tick as usize].as_ref()
    }
}

/// The largest scale of a decimal. The integers of a decimal have at most 64 bytes, which are about 154 digits.
const MAX_SCALE: i32 = 150;
/// The widest FIXED_LEN_BYTE_ARRAY decimal. 32 bytes hold 76 digits already.
const MAX_WIDTH: i32 = 64;

/// Finds the tick's columns by name and checks their types.
pub fn map_columns(meta: &FileMeta, options: &LoadOptions) -> Result<Mapping> {
    let file = TopLevel::of(meta);
    let names = names(&file);
    if let Some(shown) = names.aggregate_columns().filter(|_| !options.aggregate_trades) {
        return Err(Error::AggregateTrades { columns: shown.iter().map(ToString::to_string).collect() });
    }
    let (mut columns, mut mismatches) = ([const { None }; 9], Vec::new());
    for (tick, found) in Tick::ALL.into_iter().zip(names.find(options)) {
        match found.and_then(|found| found.map(|at| file[at].column(tick, options)).transpose()) {
            Ok(column) => columns[tick as usize] = column.flatten(),
            Err(problem) => mismatches.push(Mismatch { column: tick.name(), problem }),
        }
    }
    if mismatches.is_empty() {
        return Ok(Mapping { columns });
    }
    Err(Error::SchemaMismatch { mismatches, found: listing(&file) })
}

/// Returns the leaf columns that are found, each with the tick column that is read from it. Mismatches are ignored.
pub(super) fn uses(meta: &FileMeta, options: &LoadOptions) -> Vec<(usize, &'static str)> {
    let file = TopLevel::of(meta);
    let found = Tick::ALL.into_iter().zip(names(&file).find(options));
    found.filter_map(|(tick, found)| Some((file[found.ok()??].leaf?, tick.name()))).collect()
}

fn names(file: &[TopLevel]) -> Names<'_> {
    Names::of(file.iter().map(|column| column.name.as_str()).collect())
}

/// A column in the root of the schema. Only a column without parts can be a tick's column.
struct TopLevel {
    name: String,
    /// Its leaf number, unless the column has parts.
    leaf: Option<usize>,
    descriptor: Option<Arc<ColumnDescriptor>>,
}

impl TopLevel {
    fn of(meta: &FileMeta) -> Vec<TopLevel> {
        let schema = meta.metadata().file_metadata().schema_descr();
        let mut leaf = 0;
        let columns = schema.root_schema().get_fields().iter().enumerate().map(|(root, field)| {
            let first = leaf;
            while leaf < schema.num_columns() && schema.get_column_root_idx(leaf) == root {
                leaf += 1;
            }
            let own = field.is_primitive() && first < leaf;
            TopLevel {
                name: field.name().to_owned(),
                leaf: own.then_some(first),
                descriptor: own.then(|| schema.column(first)),
            }
        });
        columns.collect()
    }

    fn type_name(&self) -> String {
        match &self.descriptor {
            Some(leaf) => type_name(leaf),
            None => "GROUP".into(),
        }
    }

    /// Returns how the column is read as `tick`, or `None` if all its values are null.
    fn column(&self, tick: Tick, options: &LoadOptions) -> std::result::Result<Option<Column>, String> {
        let wrong = || format!("is {}, expected {}{}", self.type_name(), tick.expected(), tick.how_to_leave_it_out());
        let (Some(leaf), Some(descriptor)) = (self.leaf, &self.descriptor) else { return Err(wrong()) };
        if descriptor.max_rep_level() > 0 {
            return Err(wrong());
        }
        let physical = descriptor.physical_type();
        let logical = Logical::of(descriptor);
        if logical == Logical::Null && !tick.is_required() {
            return Ok(None);
        }
        let kind = kind(physical, &logical, descriptor.type_length()).ok_or_else(wrong)?;
        let kind = fit(tick, kind, options.time_unit).ok_or_else(|| match (tick, kind) {
            (Tick::EventTime | Tick::TradeTime, Kind::Integer { .. } | Kind::Float) => {
                let how = tick.how_to_leave_it_out();
                format!("is {} without a unit, which options.time_unit must give{how}", self.type_name())
            }
            _ => wrong(),
        })?;
        let width = match physical {
            Physical::INT96 => 12,
            Physical::FIXED_LEN_BYTE_ARRAY => descriptor.type_length() as usize,
            Physical::INT32 | Physical::FLOAT => 4,
            Physical::INT64 | Physical::DOUBLE => 8,
            Physical::BOOLEAN | Physical::BYTE_ARRAY => 0,
        };
        Ok(Some(Column { leaf, physical, width, optional: descriptor.max_def_level() > 0, kind }))
    }
}

/// Returns how values of these types are read, without regard to the tick's column.
fn kind(physical: Physical, logical: &Logical, length: i32) -> Option<Kind> {
    Some(match (physical, logical) {
        (Physical::BOOLEAN, Logical::Bare) => Kind::Flag,
        (Physical::INT32 | Physical::INT64, Logical::Bare) => Kind::Integer { signed: true },
        (Physical::INT32 | Physical::INT64, Logical::Integer { signed, .. }) => Kind::Integer { signed: *signed },
        (Physical::INT64, Logical::Timestamp { unit, .. }) => Kind::Time { unit: *unit, signed: true },
        (Physical::INT96, _) => Kind::Int96,
        (Physical::FLOAT | Physical::DOUBLE, Logical::Bare) => Kind::Float,
        (Physical::FIXED_LEN_BYTE_ARRAY, Logical::Float16) if length == 2 => Kind::Float,
        (Physical::BYTE_ARRAY, Logical::Bare | Logical::Text(_)) => Kind::Text,
        (physical, Logical::Decimal { scale, .. }) if (0..=MAX_SCALE).contains(scale) => match physical {
            Physical::FIXED_LEN_BYTE_ARRAY if !(1..=MAX_WIDTH).contains(&length) => return None,
            Physical::INT32 | Physical::INT64 | Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => {
                Kind::Decimal { scale: *scale as u32 }
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// Returns how a tick column is read from values of this kind, or `None` if that is impossible.
fn fit(tick: Tick, kind: Kind, unit: Option<TimeUnit>) -> Option<Kind> {
    let fits = match tick {
        Tick::EventTime | Tick::TradeTime => match kind {
            Kind::Integer { signed } => return unit.map(|unit| Kind::Time { unit, signed }),
            Kind::Float => return unit.map(|unit| Kind::FloatTime { unit }),
            kind => matches!(kind, Kind::Time { .. } | Kind::Int96),
        },
        Tick::Symbol => kind == Kind::Text,
        Tick::TradeId | Tick::BuyerOrderId | Tick::SellerOrderId => {
            matches!(kind, Kind::Integer { .. } | Kind::Text | Kind::Decimal { scale: 0 } | Kind::Float)
        }
        Tick::Price | Tick::Quantity => {
            matches!(kind, Kind::Decimal { .. } | Kind::Text | Kind::Integer { .. } | Kind::Float)
        }
        Tick::IsMarketMaker => matches!(kind, Kind::Flag | Kind::Integer { .. } | Kind::Text | Kind::Float),
    };
    fits.then_some(kind)
}

/// Lists the file's columns with their types. A very long list is shortened.
fn listing(file: &[TopLevel]) -> String {
    let mut text = String::new();
    for (index, column) in file.iter().enumerate() {
        if index == 50 || text.len() > 1900 {
            text.push_str(&format!(", … ({} more)", file.len() - index));
            break;
        }
        let name: String = column.name.chars().take(60).collect();
        text.push_str(if index == 0 { "" } else { ", " });
        text.push_str(&format!("{name} {}", column.type_name()));
    }
    if text.is_empty() { "no columns".into() } else { text }
}
