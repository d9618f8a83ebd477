//! The options of one load: the call's `options`, completed by the metadata that the producer registered.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::tick::MAX_TEXT;

/// The tick columns that `options.columns` can map, in the table's order.
pub const TICK_COLUMNS: [&str; 9] = [
    "event_time",
    "trade_time",
    "symbol",
    "trade_id",
    "price",
    "quantity",
    "buyer_order_id",
    "seller_order_id",
    "is_market_maker",
];

/// The tick columns that every file must have. `options.symbol` may stand for the symbol.
pub const REQUIRED_COLUMNS: [&str; 5] = ["event_time", "symbol", "trade_id", "price", "quantity"];

/// The most bytes of a JSON argument, as for the metadata of a registry row.
const MOST_JSON: usize = 65_536;

/// Parses the JSON of an argument.
pub fn parse_json(argument: &str, text: &str) -> Result<Value> {
    if text.len() > MOST_JSON {
        return Err(invalid(argument, &format!("has {} bytes; more than 65,536 are not accepted", text.len())));
    }
    serde_json::from_str(text).map_err(|error| invalid(argument, &format!("cannot be read: {error}")))
}

/// What to do with a row that is not a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadRow {
    /// Fail the load.
    Abort,
    /// Keep the row in `landing.rejected_ticks` and continue.
    Reject,
}

impl FromStr for OnBadRow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "abort" => Ok(OnBadRow::Abort),
            "reject" => Ok(OnBadRow::Reject),
            _ => Err(invalid("on_bad_row", "must be 'abort' or 'reject'")),
        }
    }
}

/// What to do with a tick if its key is already stored with other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Keep the stored tick; the new one goes to `landing.rejected_ticks`.
    #[default]
    Keep,
    /// Store the new tick.
    Replace,
    /// Fail the load.
    Abort,
    /// Treat it as the loads before have done, by the places that the objects have in the order of loads. No option
    /// says so.
    Ranked,
}

/// The unit of times that are bare integers in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970.
    Second,
    /// Milliseconds since 1970.
    Milli,
    /// Microseconds since 1970.
    Micro,
    /// Nanoseconds since 1970.
    Nano,
}

impl TimeUnit {
    /// All units.
    pub const ALL: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Milli, TimeUnit::Micro, TimeUnit::Nano];

    /// Returns the value of `options.time_unit` for this unit.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Second => "s",
            TimeUnit::Milli => "ms",
            TimeUnit::Micro => "us",
            TimeUnit::Nano => "ns",
        }
    }
}

/// The options of one load.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Store this symbol for every row; the file's symbol column is not read.
    pub symbol: Option<String>,
    /// The unit of times that are bare integers.
    pub time_unit: Option<TimeUnit>,
    /// The file column for each mapped tick column. `None` leaves an optional tick column out.
    pub columns: BTreeMap<&'static str, Option<String>>,
    /// Store each row of a file of aggregate trades as one tick. Otherwise such a file is refused.
    pub aggregate_trades: bool,
    /// Key of `ingestion.stream_offsets`.
    pub source: Option<String>,
    /// The exchange, which names the default source.
    pub exchange: Option<String>,
    /// What to do with conflicts.
    pub on_conflict: OnConflict,
    /// Whether the trade ids of the object's assets are a sequence. `None` says nothing about it.
    pub sequential_ids: Option<bool>,
}

/// The producer's metadata about the object. A load fails if the object differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// Lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// Rows in the file.
    pub rows: Option<u64>,
    /// Size of the object.
    pub object_size_bytes: Option<u64>,
}

const OPTION_KEYS: [&str; 8] =
    ["symbol", "time_unit", "columns", "aggregate_trades", "source", "exchange", "on_conflict", "sequential_ids"];

/// Completes the call's options by `metadata`, whose first element has the highest priority. An unknown key is an error
/// in the call's options; metadata may have other keys.
pub fn resolve(call: &Value, metadata: &[Value]) -> Result<(LoadOptions, Expected)> {
    let call = object("options", call)?;
    if let Some(unknown) = call.keys().find(|key| !OPTION_KEYS.contains(&key.as_str())) {
        return Err(invalid(unknown, &format!("is not known; the options are {}", OPTION_KEYS.join(", "))));
    }
    let mut merged: Map<String, Value> = call.clone();
    for layer in metadata.iter().filter(|layer| !layer.is_null()) {
        for (key, value) in object("metadata", layer)? {
            merged.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    merged.retain(|_, value| !value.is_null());
    Ok((options(&merged)?, expected(&merged)?))
}

impl LoadOptions {
    /// Returns the options that decide which ticks an object yields, as `ingestion.objects.options` stores them. An
    /// object that was loaded with another shape is not 'already loaded'.
    pub fn shape(&self) -> Value {
        let mut shape = Map::new();
        if let Some(symbol) = &self.symbol {
            shape.insert("symbol".into(), json!(symbol));
        }
        if let Some(unit) = self.time_unit {
            shape.insert("time_unit".into(), json!(unit.name()));
        }
        if !self.columns.is_empty() {
            shape.insert("columns".into(), json!(self.columns));
        }
        if self.aggregate_trades {
            shape.insert("aggregate_trades".into(), json!(true));
        }
        Value::Object(shape)
    }
}

fn options(map: &Map<String, Value>) -> Result<LoadOptions> {
    let symbol = text(map, "symbol")?;
    if symbol.as_ref().is_some_and(|symbol| symbol.is_empty() || symbol.len() > MAX_TEXT) {
        return Err(invalid("symbol", "must be 1 to 255 bytes of text"));
    }
    let time_unit = match text(map, "time_unit")? {
        None => None,
        Some(name) => Some(
            TimeUnit::ALL
                .into_iter()
                .find(|unit| unit.name() == name)
                .ok_or_else(|| invalid("time_unit", "must be \"s\", \"ms\", \"us\" or \"ns\""))?,
        ),
    };
    let on_conflict = match text(map, "on_conflict")?.as_deref() {
        None | Some("keep") => OnConflict::Keep,
        Some("replace") => OnConflict::Replace,
        Some("abort") => OnConflict::Abort,
        Some(_) => return Err(invalid("on_conflict", "must be \"keep\", \"replace\" or \"abort\"")),
    };
    let columns = columns(map, symbol.is_some())?;
    let aggregate_trades = truth(map, "aggregate_trades")?.unwrap_or(false);
    Ok(LoadOptions {
        symbol,
        time_unit,
        columns,
        aggregate_trades,
        source: text(map, "source")?,
        exchange: text(map, "exchange")?,
        on_conflict,
        sequential_ids: truth(map, "sequential_ids")?,
    })
}

/// Reads `columns`. `has_symbol` is whether `symbol` stands for the symbol's column.
fn columns(map: &Map<String, Value>, has_symbol: bool) -> Result<BTreeMap<&'static str, Option<String>>> {
    let mut columns = BTreeMap::new();
    let Some(value) = map.get("columns") else { return Ok(columns) };
    for (tick, file) in object("columns", value)? {
        let tick = *TICK_COLUMNS.iter().find(|name| **name == *tick).ok_or_else(|| {
            invalid("columns", &format!("\"{tick}\" is no tick column; they are {}", TICK_COLUMNS.join(", ")))
        })?;
        let file = match file {
            Value::String(name) => Some(name.clone()),
            Value::Null if REQUIRED_COLUMNS.contains(&tick) && !(tick == "symbol" && has_symbol) => {
                let why = format!("\"{tick}\" is required and cannot be left out; null is for optional columns");
                return Err(invalid("columns", &why));
            }
            Value::Null => None,
            _ => return Err(invalid("columns", &format!("the name for \"{tick}\" must be text, or null"))),
        };
        columns.insert(tick, file);
    }
    Ok(columns)
}

fn expected(map: &Map<String, Value>) -> Result<Expected> {
    let sha256 = text(map, "sha256")?.map(|digest| digest.to_lowercase());
    if sha256.as_ref().is_some_and(|digest| digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(invalid("sha256", "must be 64 hexadecimal digits"));
    }
    Ok(Expected { sha256, rows: count(map, "rows")?, object_size_bytes: count(map, "object_size_bytes")? })
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| invalid(key, "must be a JSON object"))
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    map.get(key).map(|value| value.as_str().map(str::to_owned).ok_or_else(|| invalid(key, "must be text"))).transpose()
}

fn truth(map: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    map.get(key).map(|value| value.as_bool().ok_or_else(|| invalid(key, "must be true or false"))).transpose()
}

fn count(map: &Map<String, Value>, key: &str) -> Result<Option<u64>> {
    map.get(key).map(|value| value.as_u64().ok_or_else(|| invalid(key, "must be a whole number"))).transpose()
}

fn invalid(key: &str, why: &str) -> Error {
    Error::InvalidOption { key: key.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_completes_the_call_and_never_overrides_it() {
        let call = json!({"symbol": "A"});
        let metadata = [json!({"symbol": "B", "time_unit": "ms", "producer": {"x": 1}}), json!({"time_unit": "ns"})];
        let (options, expected) = resolve(&call, &metadata).unwrap();
        assert_eq!(options.symbol.as_deref(), Some("A"));
        assert_eq!(options.time_unit, Some(TimeUnit::Milli));
        assert_eq!(expected, Expected::default());
    }

    #[test]
    fn an_unknown_key_is_an_error_in_the_call_only() {
        assert!(resolve(&json!({"symbl": "A"}), &[]).is_err());
        assert!(resolve(&json!({}), &[json!({"symbl": "A"})]).is_ok());
    }

    #[test]
    fn a_value_that_a_key_cannot_have_names_the_key() {
        for (bad, key) in [
            (json!({"time_unit": "minutes"}), "time_unit"),
            (json!({"on_conflict": true}), "on_conflict"),
            (json!({"columns": {"prize": "p"}}), "columns"),
            (json!({"columns": {"price": null}}), "columns"),
            (json!({"columns": {"symbol": null}}), "columns"),
            (json!({"columns": {"trade_time": 7}}), "columns"),
            (json!({"aggregate_trades": "yes"}), "aggregate_trades"),
            (json!({"sequential_ids": "no"}), "sequential_ids"),
            (json!({"symbol": ""}), "symbol"),
        ] {
            match resolve(&bad, &[]) {
                Err(Error::InvalidOption { key: named, .. }) => assert_eq!(named, key),
                other => panic!("{bad}: {other:?}"),
            }
        }
        assert!(resolve(&json!({}), &[json!({"sha256": "abc"})]).is_err());
        assert!(resolve(&json!([]), &[]).is_err());
    }

    #[test]
    fn only_what_changes_the_ticks_is_the_shape() {
        let (options, _) =
            resolve(&json!({"symbol": "A", "source": "s", "on_conflict": "keep", "sequential_ids": false}), &[])
                .unwrap();
        assert_eq!(options.shape(), json!({"symbol": "A"}));
        assert_eq!(options.sequential_ids, Some(false));
    }

    #[test]
    fn a_column_that_is_left_out_belongs_to_the_shape_and_is_remembered() {
        let left_out = json!({"columns": {"seller_order_id": null, "price": "px"}});
        let (options, _) = resolve(&left_out, &[]).unwrap();
        assert_eq!(options.columns["seller_order_id"], None);
        assert_eq!(options.shape(), left_out);
        let (again, _) = resolve(&json!({}), &[options.shape()]).unwrap();
        assert_eq!(again, options);
        let (mapped, _) = resolve(&json!({"columns": {"price": "px"}}), &[]).unwrap();
        assert_ne!(mapped.shape(), options.shape());
        assert!(resolve(&json!({"symbol": "A", "columns": {"symbol": null}}), &[]).is_ok());
    }

    #[test]
    fn aggregate_trades_belong_to_the_shape() {
        let (options, _) = resolve(&json!({"aggregate_trades": true}), &[]).unwrap();
        assert_eq!(options.shape(), json!({"aggregate_trades": true}));
        let (off, _) = resolve(&json!({"aggregate_trades": false}), &[options.shape()]).unwrap();
        assert_eq!(off.shape(), json!({}));
    }
}
