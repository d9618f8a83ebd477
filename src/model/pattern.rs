//! Patterns such as `s3://bucket/Binance/{asset}/{yyyy}/{mm}/{dd}/…`, which say what a key tells of its object. A
//! pattern is parsed once and matched against many keys.

use std::ops::Range;
use std::str::FromStr;

use chrono::{Months, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value, json};

use super::bucket::BUCKET_US;
use super::uri::split;
use crate::error::{Error, Result};

/// A prefix with placeholders for the facts that a key names. A prefix without placeholders matches all its keys and
/// names no facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    bucket: String,
    prefix: String,
    parts: Vec<Part>,
    /// The parts that make keys sort by time, if there are any.
    sorting: Option<Range<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Exchange,
    Asset,
    Any,
}

const FIELDS: [(&str, Field); 8] = [
    ("yyyy", Field::Year),
    ("mm", Field::Month),
    ("dd", Field::Day),
    ("hh", Field::Hour),
    ("mi", Field::Minute),
    ("exchange", Field::Exchange),
    ("asset", Field::Asset),
    ("*", Field::Any),
];

/// The facts that one key names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// The exchange, in lower case.
    pub exchange: Option<String>,
    /// The symbol.
    pub asset: Option<String>,
    /// The times that the object can hold, in microseconds since 1970: the named year, month, day, hour or bucket.
    pub span: Option<Range<i64>>,
    /// The key's place in the order of time, if keys of this pattern sort by time.
    pub place: Option<Place>,
}

/// Which bytes of a key are its time. Keys that are equal up to `group` sort by time, and their bytes from `group` to
/// `moment` are that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The length of the part before the time.
    pub group: usize,
    /// The length of the part up to the end of the time.
    pub moment: usize,
}

impl KeyFacts {
    /// Returns exchange and symbol as metadata of the object.
    pub fn metadata(&self) -> Map<String, Value> {
        let told = [("exchange", &self.exchange), ("symbol", &self.asset)];
        told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))).collect()
    }
}

impl KeyPattern {
    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the beginning that all keys share: the text before the first placeholder.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns whether keys with the same text before their time sort by time.
    pub fn sorts_by_time(&self) -> bool {
        self.sorting.is_some()
    }

    /// Returns the facts that a key names, or `None` if it does not match the pattern. Any text may follow the match.
    pub fn read(&self, key: &str) -> Option<KeyFacts> {
        let mut rest = key;
        let mut found: [Option<&str>; FIELDS.len()] = Default::default();
        let mut begins = Vec::with_capacity(self.parts.len());
        for (index, part) in self.parts.iter().enumerate() {
            begins.push(key.len() - rest.len());
            let field = match part {
                Part::Literal(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Part::Field(field) => *field,
            };
            let (value, behind) = rest.split_at(field.value_len(rest, self.parts.get(index + 1))?);
            rest = behind;
            if field == Field::Any {
                continue;
            }
            let known = &mut found[field as usize];
            // A placeholder that occurs twice, such as a date in folder and name, must have the same value.
            if value.is_empty() || value.contains('/') || known.is_some_and(|known| known != value) {
                return None;
            }
            *known = Some(value);
        }
        begins.push(key.len() - rest.len());
        let place = |sorting: &Range<usize>| Place { group: begins[sorting.start], moment: begins[sorting.end] };
        let text = |field: Field| found[field as usize];
        let number = |field: Field| text(field).and_then(|digits| digits.parse::<u32>().ok());
        Some(KeyFacts {
            exchange: text(Field::Exchange).map(str::to_lowercase),
            asset: text(Field::Asset).map(str::to_owned),
            span: match number(Field::Year) {
                None => None,
                Some(year) => Some(span(
                    year,
                    number(Field::Month),
                    number(Field::Day),
                    number(Field::Hour),
                    number(Field::Minute),
                )?),
            },
            place: self.sorting.as_ref().map(place),
        })
    }
}

impl Field {
    fn digits(self) -> Option<usize> {
        match self {
            Field::Year => Some(4),
            Field::Month | Field::Day | Field::Hour | Field::Minute => Some(2),
            Field::Exchange | Field::Asset | Field::Any => None,
        }
    }

    /// Returns the length of the field's value at the beginning of `rest`, or `None` if no value is there. `next` is
    /// the part after the field.
    fn value_len(self, rest: &str, next: Option<&Part>) -> Option<usize> {
        match (self.digits(), next) {
            (Some(digits), _) => {
                let is_number = rest.len() >= digits && rest.bytes().take(digits).all(|b| b.is_ascii_digit());
                is_number.then_some(digits)
            }
            (None, Some(Part::Literal(next))) => rest.find(next.as_str()),
            (None, _) => Some(rest.find('/').unwrap_or(rest.len())),
        }
    }
}

/// Returns the parts that keys sort by: year, month, day and so on in this order, as long as no part between them can
/// differ among keys with the same beginning.
fn sorting(parts: &[Part]) -> Option<Range<usize>> {
    let time = |part: &Part| matches!(part, Part::Field(field) if field.digits().is_some());
    let first = parts.iter().position(time).filter(|first| parts[*first] == Part::Field(Field::Year))?;
    let mut known = 0;
    let mut end = first;
    for (index, part) in parts.iter().enumerate().skip(first) {
        match part {
            Part::Literal(_) => continue,
            Part::Field(field) if field.digits().is_some() && *field as usize <= known => {
                known = known.max(*field as usize + 1);
                end = index + 1;
            }
            Part::Field(Field::Exchange | Field::Asset) if parts[..first].contains(part) => {}
            Part::Field(_) => break,
        }
    }
    Some(first..end)
}

/// Returns the times that these numbers name, or `None` if there is no such day or hour.
fn span(year: u32, month: Option<u32>, day: Option<u32>, hour: Option<u32>, minute: Option<u32>) -> Option<Range<i64>> {
    let date = NaiveDate::from_ymd_opt(year as i32, month.unwrap_or(1), day.unwrap_or(1))?;
    let from = date.and_hms_opt(hour.unwrap_or(0), minute.unwrap_or(0), 0)?;
    let us = |time: NaiveDateTime| time.and_utc().timestamp_micros();
    let to = match (month, day, hour, minute) {
        (None, ..) => us(from.checked_add_months(Months::new(12))?),
        (_, None, ..) => us(from.checked_add_months(Months::new(1))?),
        (_, _, None, _) => us(from) + 288 * BUCKET_US,
        (_, _, _, None) => us(from) + 12 * BUCKET_US,
        _ => us(from) + BUCKET_US,
    };
    Some(us(from)..to)
}

impl FromStr for KeyPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::InvalidPattern { text: text.chars().take(200).collect(), why: why.into() };
        let (bucket, key) = split(text).map_err(invalid)?;
        let mut parts = Vec::new();
        let mut rest = key;
        while let Some(open) = rest.find('{') {
            let (literal, behind) = rest.split_at(open);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let close = behind.find('}').ok_or_else(|| invalid("a \"{\" has no \"}\""))?;
            let name = &behind[1..close];
            let field = FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field).ok_or_else(|| {
                invalid(&format!(
                    "{{{name}}} is no placeholder; there are {{exchange}}, {{asset}}, {{yyyy}}, {{mm}}, {{dd}}, \
                     {{hh}}, {{mi}} and {{*}}"
                ))
            })?;
            if matches!(parts.last(), Some(Part::Field(before)) if before.digits().is_none()) {
                return Err(invalid("no text separates {exchange}, {asset} or {*} from the next placeholder"));
            }
            parts.push(Part::Field(field));
            rest = &behind[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        let has = |field: Field| parts.contains(&Part::Field(field));
        for (finer, coarser) in [
            (Field::Month, Field::Year),
            (Field::Day, Field::Month),
            (Field::Hour, Field::Day),
            (Field::Minute, Field::Hour),
        ] {
            if has(finer) && !has(coarser) {
                return Err(invalid("a finer part of the time needs the coarser ones: {yyyy}, {mm}, {dd}, {hh}, {mi}"));
            }
        }
        let prefix = match parts.first() {
            Some(Part::Literal(text)) => text.clone(),
            _ => String::new(),
        };
        let sorting = sorting(&parts);
        Ok(KeyPattern { bucket: bucket.to_owned(), prefix, parts, sorting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> KeyPattern {
        text.parse().unwrap()
    }

    fn us(text: &str) -> i64 {
        text.parse::<NaiveDateTime>().unwrap().and_utc().timestamp_micros()
    }

    #[test]
    fn a_prefix_without_placeholders_takes_every_key_and_says_nothing() {
        let plain = pattern("s3://landing/Binance/BTC");
        let has_time = plain.parts.contains(&Part::Field(Field::Year));
        assert_eq!((plain.bucket(), plain.prefix(), has_time), ("landing", "Binance/BTC", false));
        assert_eq!(plain.read("Binance/BTCUSDT/x.parquet"), Some(KeyFacts::default()));
        assert_eq!(plain.read("Kraken/x"), None);
        assert_eq!(pattern("s3://landing").read("any"), Some(KeyFacts::default()));
    }

    #[test]
    fn a_key_names_exchange_asset_and_the_five_minutes() {
        let full = pattern("s3://landing/{exchange}/{asset}/{yyyy}/{mm}/{dd}/{*}_{yyyy}{mm}{dd}T{hh}{mi}Z.parquet");
        let facts = full.read("Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1205Z.parquet").unwrap();
        assert_eq!(facts.exchange.as_deref(), Some("binance"));
        assert_eq!(facts.asset.as_deref(), Some("BTCUSDT"));
        assert_eq!(facts.span, Some(us("2024-08-08T12:05:00")..us("2024-08-08T12:10:00")));
        assert_eq!(full.prefix(), "");
    }

    #[test]
    fn the_finest_part_of_the_time_is_the_span() {
        let span = |text: &str, key: &str| pattern(text).read(key).unwrap().span.unwrap();
        assert_eq!(span("s3://abc/{yyyy}", "2024"), us("2024-01-01T00:00:00")..us("2025-01-01T00:00:00"));
        assert_eq!(span("s3://abc/{yyyy}-{mm}", "2024-02"), us("2024-02-01T00:00:00")..us("2024-03-01T00:00:00"));
        assert_eq!(span("s3://abc/{yyyy}{mm}{dd}", "20240229"), us("2024-02-29T00:00:00")..us("2024-03-01T00:00:00"));
        assert_eq!(
            span("s3://abc/{yyyy}{mm}{dd}{hh}", "2024022923"),
            us("2024-02-29T23:00:00")..us("2024-03-01T00:00:00")
        );
    }

    #[test]
    fn keys_sort_by_time_as_far_as_nothing_else_comes_between() {
        let place = |text: &str, key: &'static str| {
            let place = pattern(text).read(key).unwrap().place;
            place.map(|place| (&key[..place.group], &key[..place.moment]))
        };
        let key = "Binance/BTC/2024/08/08/BTC_20240808T1205Z.parquet";
        let (group, day) = ("Binance/BTC/", "Binance/BTC/2024/08/08");
        let full = "s3://abc/Binance/{asset}/{yyyy}/{mm}/{dd}/{asset}_{yyyy}{mm}{dd}T{hh}{mi}Z.parquet";
        assert_eq!(place(full, key), Some((group, "Binance/BTC/2024/08/08/BTC_20240808T1205")));
        assert_eq!(place("s3://abc/Binance/{asset}/{yyyy}/{mm}/{dd}/", key), Some((group, day)));
        // Keys of one day may be of several kinds, so they sort by day only.
        assert_eq!(
            place("s3://abc/Binance/{asset}/{yyyy}/{mm}/{dd}/{*}_{yyyy}{mm}{dd}T{hh}{mi}", key),
            Some((group, day))
        );
        assert_eq!(place("s3://abc/{yyyy}/{asset}/{mm}", "2024/BTC/08"), Some(("", "2024")));
        assert_eq!(place("s3://abc/{yyyy}/{dd}/{mm}", "2024/28/08"), Some(("", "2024")));
        assert_eq!(place("s3://abc/{dd}.{mm}.{yyyy}", "28.08.2024"), None);
        assert_eq!(place("s3://abc/Binance/{asset}/", key), None);
        assert!(pattern(full).sorts_by_time() && !pattern("s3://abc/x").sorts_by_time());
    }

    #[test]
    fn a_key_of_another_shape_or_with_an_impossible_date_is_not_of_the_pattern() {
        let daily = pattern("s3://abc/{asset}/{yyyy}/{mm}/{dd}/{yyyy}{mm}{dd}");
        for key in ["BTC/2024/13/01/20241301", "BTC/2024/01/01/20240102", "BTC/2024/1/01/x", "/2024/01/01/20240101", ""]
        {
            assert_eq!(daily.read(key), None, "{key}");
        }
    }

    #[test]
    fn a_wrong_pattern_is_refused_with_the_reason() {
        for (text, why) in [
            ("s3://abc/{year}", "{year} is no placeholder"),
            ("s3://abc/{yyyy", "has no \"}\""),
            ("s3://abc/{asset}{yyyy}", "no text separates"),
            ("s3://abc/{dd}", "needs the coarser"),
            ("abc", "does not begin with s3://"),
        ] {
            let error = text.parse::<KeyPattern>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
