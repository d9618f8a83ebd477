//! Known outages of an exchange, as data vendors publish them.

use chrono::DateTime;
use serde_json::Value;

use crate::error::{Error, Result};

/// An outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Microseconds since 1970.
    from: i64,
    /// Microseconds since 1970.
    to: i64,
    /// The only asset that it concerns.
    asset: Option<String>,
    /// What a hole within it gets as its reason.
    pub reason: String,
}

impl Incident {
    /// Returns whether a hole between ticks at `before` and `after` lies within the outage, or no more than `tolerance`
    /// outside at either end. All are in microseconds.
    pub fn covers(&self, asset: &str, before: i64, after: i64, tolerance: i64) -> bool {
        self.asset.as_ref().is_none_or(|own| own == asset)
            && before >= self.from.saturating_sub(tolerance)
            && after <= self.to.saturating_add(tolerance)
    }
}

/// Reads a list of objects with the keys `from`, `to`, `status`, `details` and, for one asset only, `asset`.
pub fn incidents(list: &Value) -> Result<Vec<Incident>> {
    let Value::Array(list) = list else { return Err(wrong("must be a JSON array")) };
    list.iter().zip(1..).map(|(item, place)| incident(item, place)).collect()
}

fn incident(item: &Value, place: usize) -> Result<Incident> {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    let time = |key: &str| {
        let parsed = text(key).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        let why = || wrong(&format!("incident {place}: \"{key}\" must be a time such as 2024-08-08T12:00:00Z"));
        parsed.map(|time| time.timestamp_micros()).ok_or_else(why)
    };
    let (from, to) = (time("from")?, time("to")?);
    if to <= from {
        return Err(wrong(&format!("incident {place}: \"to\" must be later than \"from\"")));
    }
    let parts: Vec<&str> = [text("status"), text("details")].into_iter().flatten().collect();
    let reason = if parts.is_empty() { "incident".to_owned() } else { parts.join(": ") };
    Ok(Incident { from, to, asset: text("asset").map(ToOwned::to_owned), reason })
}

fn wrong(why: &str) -> Error {
    Error::InvalidOption { key: "incidents".into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hole_within_an_outage_is_covered() {
        let list = json!([{"from": "2024-08-08T12:00:00.000Z", "to": "2024-08-08T13:00:00.000Z",
                           "status": "resolved", "details": "maintenance"}]);
        let incident = &incidents(&list).unwrap()[0];
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let (from, to) = (at("2024-08-08T12:00:00Z"), at("2024-08-08T13:00:00Z"));
        assert_eq!(incident.reason, "resolved: maintenance");
        assert!(incident.covers("X", from, to, 0));
        assert!(!incident.covers("X", from - 1, to, 0) && !incident.covers("X", from, to + 1, 0));
        assert!(incident.covers("X", from - 5, to + 5, 5));
        let one = Incident { asset: Some("BTCUSDT".into()), ..incident.clone() };
        assert!(one.covers("BTCUSDT", from, to, 0) && !one.covers("ETHUSDT", from, to, 0));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_refused() {
        for list in [
            json!({}),
            json!([{"from": "2024-08-08", "to": "2024-08-09T00:00:00Z"}]),
            json!([{"from": "2024-08-09T00:00:00Z", "to": "2024-08-08T00:00:00Z"}]),
            json!([{"to": "2024-08-08T00:00:00Z"}]),
            json!([1]),
        ] {
            assert!(incidents(&list).is_err(), "{list}");
        }
    }
}
