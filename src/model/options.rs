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

/// The options of one load.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Store this symbol for every row; the file's symbol column is not read.
    pub symbol: Option<String>,
    /// The unit of times that are bare integers.
    pub time_unit: Option<TimeUnit>,
    /// The file column for each mapped tick column.
    pub columns: BTreeMap<&'static str, String>,
    /// Key of `ingestion.stream_offsets`.
    pub source: Option<String>,
    /// The exchange, which names the default source.
    pub exchange: Option<String>,
    /// What to do with conflicts.
    pub on_conflict: OnConflict,
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

const OPTION_KEYS: [&str; 6] = ["symbol", "time_unit", "columns", "source", "exchange", "on_conflict"];

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
            let name = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Milli => "ms",
                TimeUnit::Micro => "us",
                TimeUnit::Nano => "ns",
            };
            shape.insert("time_unit".into(), json!(name));
        }
        if !self.columns.is_empty() {
            shape.insert("columns".into(), json!(self.columns));
        }
        Value::Object(shape)
    }
}

fn options(map: &Map<String, Value>) -> Result<LoadOptions> {
    let symbol = text(map, "symbol")?;
    if symbol.as_ref().is_some_and(|symbol| symbol.is_empty() || symbol.len() > MAX_TEXT) {
        return Err(invalid("symbol", "must be 1 to 255 bytes of text"));
    }
    let time_unit = match text(map, "time_unit")?.as_deref() {
        None => None,
        Some("s") => Some(TimeUnit::Second),
        Some("ms") => Some(TimeUnit::Milli),
        Some("us") => Some(TimeUnit::Micro),
        Some("ns") => Some(TimeUnit::Nano),
        Some(_) => return Err(invalid("time_unit", "must be \"s\", \"ms\", \"us\" or \"ns\"")),
    };
    let on_conflict = match text(map, "on_conflict")?.as_deref() {
        None | Some("keep") => OnConflict::Keep,
        Some("replace") => OnConflict::Replace,
        Some("abort") => OnConflict::Abort,
        Some(_) => return Err(invalid("on_conflict", "must be \"keep\", \"replace\" or \"abort\"")),
    };
    let mut columns = BTreeMap::new();
    if let Some(value) = map.get("columns") {
        for (tick, file) in object("columns", value)? {
            let tick = TICK_COLUMNS.iter().find(|name| **name == *tick).ok_or_else(|| {
                invalid("columns", &format!("\"{tick}\" is no tick column; they are {}", TICK_COLUMNS.join(", ")))
            })?;
            let file =
                file.as_str().ok_or_else(|| invalid("columns", &format!("the name for \"{tick}\" must be text")))?;
            columns.insert(*tick, file.to_owned());
        }
    }
    Ok(LoadOptions {
        symbol,
        time_unit,
        columns,
        source: text(map, "source")?,
        exchange: text(map, "exchange")?,
        on_conflict,
    })
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
        let (options, _) = resolve(&json!({"symbol": "A", "source": "s", "on_conflict": "keep"}), &[]).unwrap();
        assert_eq!(options.shape(), json!({"symbol": "A"}));
    }
}
