//! The options of a watch: how often its prefix is listed, and how the objects found there are loaded.

use std::time::Duration;

use serde_json::{Map, Value};

use super::options;
use super::pattern::KeyFacts;
use crate::error::{Error, Result};

/// Options of a watch that are options of the loads.
pub const LOAD_KEYS: [&str; 8] =
    ["symbol", "exchange", "time_unit", "columns", "aggregate_trades", "source", "on_conflict", "sequential_ids"];
const INTERVAL: Duration = Duration::from_secs(60);
const FULL_INTERVAL: Duration = Duration::from_secs(3600);
/// Every listing costs requests, even if it finds nothing.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
const UNITS: [(&[&str], f64); 5] = [
    (&["ms", "millisecond", "milliseconds"], 1e-3),
    (&["s", "sec", "secs", "second", "seconds"], 1.0),
    (&["m", "min", "mins", "minute", "minutes"], 60.0),
    (&["h", "hr", "hrs", "hour", "hours"], 3600.0),
    (&["d", "day", "days"], 86_400.0),
];

/// The options of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchOptions {
    /// The time from the end of a listing to the next one.
    pub interval: Duration,
    /// The same between listings of the whole prefix. Other listings begin after the keys that are already known.
    pub full_interval: Duration,
    /// Whether the prefix is listed at all.
    pub enabled: bool,
    /// Options of the loads. They become metadata of every object that is found.
    pub load: Map<String, Value>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions { interval: INTERVAL, full_interval: FULL_INTERVAL, enabled: true, load: Map::new() }
    }
}

impl WatchOptions {
    /// Parses the options. Unknown keys and wrong values are errors.
    pub fn parse(given: &Value) -> Result<WatchOptions> {
        let given = given.as_object().ok_or_else(|| invalid("options", "must be a JSON object"))?;
        let mut read = WatchOptions::default();
        for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "interval" => read.interval = duration(key, value)?,
                "full_interval" => read.full_interval = duration(key, value)?,
                "enabled" => read.enabled = value.as_bool().ok_or_else(|| invalid(key, "must be true or false"))?,
                known if LOAD_KEYS.contains(&known) => drop(read.load.insert(key.clone(), value.clone())),
                _ => {
                    let known = LOAD_KEYS.join(", ");
                    let why = format!("is not known; a watch has interval, full_interval, enabled, {known}");
                    return Err(invalid(key, &why));
                }
            }
        }
        options::resolve(&Value::Object(read.load.clone()), &[])?;
        Ok(read)
    }

    /// Returns the metadata of an object whose key tells these facts. The options win over what the key tells.
    pub fn metadata(&self, facts: &KeyFacts) -> Map<String, Value> {
        let mut metadata = facts.metadata();
        metadata.extend(self.load.clone());
        metadata
    }
}

/// Changes the options of a watch: given keys replace those that stand, and null removes them.
pub fn merge(standing: &Value, given: &Value) -> Result<Value> {
    let given = given.as_object().ok_or_else(|| invalid("options", "must be a JSON object"))?;
    let mut merged = standing.as_object().cloned().unwrap_or_default();
    merged.extend(given.clone());
    merged.retain(|_, value| !value.is_null());
    Ok(Value::Object(merged))
}

/// Parses a duration such as `"90 seconds"`, `"1.5 min"` or `"1 hour 30 min"`.
///
/// Written by hand because no library fits: humantime (2.4) panics on sums beyond 64 bits, reads `5 M` as five months
/// and does not know `milliseconds`. PostgreSQL 15 has no cast to interval that returns an error as a value.
fn duration(key: &str, value: &Value) -> Result<Duration> {
    let wrong = || invalid(key, "must be text such as \"30 seconds\", \"5 min\" or \"1 hour 30 minutes\"");
    let text = value.as_str().ok_or_else(wrong)?.trim();
    if text.is_empty() {
        return Err(wrong());
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let behind = behind.trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(names, _)| names.contains(&unit)).ok_or_else(wrong)?;
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = behind.trim_start();
    }
    if !(SHORTEST.as_secs_f64()..=LONGEST.as_secs_f64()).contains(&seconds) {
        return Err(invalid(key, "must be between 100 ms and 366 days"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn invalid(key: &str, why: &str) -> Error {
    Error::InvalidOption { key: key.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_option_has_a_default() {
        let options = WatchOptions::parse(&json!({"interval": null})).unwrap();
        assert_eq!((options.interval, options.full_interval, options.enabled), (INTERVAL, FULL_INTERVAL, true));
        assert!(options.load.is_empty());
    }

    #[test]
    fn options_of_loads_are_kept_for_the_objects() {
        let options = WatchOptions::parse(&json!({"symbol": "A", "time_unit": "ms", "enabled": false})).unwrap();
        assert_eq!(Value::Object(options.load), json!({"symbol": "A", "time_unit": "ms"}));
        assert!(!options.enabled);
    }

    #[test]
    fn given_options_change_standing_ones_and_null_removes_them() {
        let standing = json!({"time_unit": "ms", "exchange": "binance", "interval": null});
        let merged = merge(&standing, &json!({"enabled": false, "exchange": null})).unwrap();
        assert_eq!(merged, json!({"time_unit": "ms", "enabled": false}));
        assert_eq!(merge(&Value::Null, &json!({"symbol": "A"})).unwrap(), json!({"symbol": "A"}));
        assert!(merge(&standing, &json!([])).is_err());
    }

    #[test]
    fn options_win_over_what_the_key_tells() {
        let options = WatchOptions::parse(&json!({"symbol": "A", "time_unit": "ms"})).unwrap();
        let facts = KeyFacts { asset: Some("B".into()), exchange: Some("kraken".into()), ..KeyFacts::default() };
        let metadata = json!({"symbol": "A", "time_unit": "ms", "exchange": "kraken"});
        assert_eq!(Value::Object(options.metadata(&facts)), metadata);
    }

    #[test]
    fn times_are_numbers_with_units() {
        for (text, seconds) in [
            ("90 s", 90.0),
            (" 5 min ", 300.0),
            ("1 hour 30 minutes", 5400.0),
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            ("250 milliseconds", 0.25),
            ("1.5min", 90.0),
            ("1.5 days", 129_600.0),
        ] {
            let options = WatchOptions::parse(&json!({"interval": text})).unwrap();
            assert_eq!(options.interval, Duration::from_secs_f64(seconds), "{text}");
        }
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        for (given, key) in [
            (json!({"intervall": "1 s"}), "intervall"),
            (json!({"interval": 60}), "interval"),
            (json!({"interval": ""}), "interval"),
            (json!({"interval": "60"}), "interval"),
            (json!({"interval": "1 fortnight"}), "interval"),
            (json!({"interval": "5 M"}), "interval"),
            (json!({"interval": "30500568904943 days 1 ms"}), "interval"),
            (json!({"full_interval": "1 ms"}), "full_interval"),
            (json!({"interval": "1000 days"}), "interval"),
            (json!({"interval": "1.2.3 s"}), "interval"),
            (json!({"enabled": "yes"}), "enabled"),
            (json!({"symbol": ""}), "symbol"),
            (json!({"sequential_ids": 0}), "sequential_ids"),
            (json!({"columns": {"prize": "p"}}), "columns"),
            (json!([]), "options"),
        ] {
            match WatchOptions::parse(&given) {
                Err(Error::InvalidOption { key: named, .. }) => assert_eq!(named, key, "{given}"),
                other => panic!("{given}: {other:?}"),
            }
        }
    }
}
