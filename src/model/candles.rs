//! Widths and names of candles.

use crate::error::{Error, Result};
use crate::model::bucket::BUCKET_US;

const MILLISECOND: i64 = 1_000;
const SECOND: i64 = 1_000 * MILLISECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The narrowest candle.
const NARROWEST: i64 = 100 * MILLISECOND;
/// The longest name. PostgreSQL's names have 63 bytes, and an aggregate of parts adds a suffix.
const LONGEST_NAME: usize = 50;

/// By which time a trade belongs to a candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandleTime {
    /// The time of the exchange's event, which decides the bucket as well.
    Event,
    /// The time of the match, as the exchange's own klines have it.
    Trade,
}

impl CandleTime {
    /// Returns the name of the column.
    pub fn as_str(self) -> &'static str {
        match self {
            CandleTime::Event => "event_time",
            CandleTime::Trade => "trade_time",
        }
    }
}

impl std::str::FromStr for CandleTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "event_time" => Ok(CandleTime::Event),
            "trade_time" => Ok(CandleTime::Trade),
            _ => Err(wrong(format!("by must be event_time or trade_time, not \"{text}\""))),
        }
    }
}

/// The width of a candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandleWidth {
    us: i64,
}

impl CandleWidth {
    /// Accepts widths from 100 ms on that divide a bucket, and multiples of a bucket that divide a day.
    pub fn new(us: i64) -> Result<Self> {
        let within_bucket = (NARROWEST..=BUCKET_US).contains(&us) && us % MILLISECOND == 0 && BUCKET_US % us == 0;
        let of_buckets = (BUCKET_US..=DAY).contains(&us) && us % BUCKET_US == 0 && DAY % us == 0;
        if within_bucket || of_buckets { Ok(CandleWidth { us }) } else { Err(wrong(refusal(us))) }
    }

    /// Returns the width in microseconds.
    pub fn as_us(self) -> i64 {
        self.us
    }

    /// Returns the name of candles of this width, as far as their caller gives none.
    pub fn default_name(self, by: CandleTime) -> String {
        let suffix = if by == CandleTime::Trade { "_tt" } else { "" };
        format!("btc_ohlcv_{}{suffix}", label(self.us))
    }
}

/// Returns the width in its largest whole unit: `100ms`, `1s`, `5m`, `1h`, `1d`.
fn label(us: i64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")];
    let unit = units.into_iter().find(|(unit, _)| us % unit == 0).unwrap_or((MILLISECOND, "ms"));
    format!("{}{}", us / unit.0, unit.1)
}

fn refusal(us: i64) -> String {
    let fitting = |unit: i64, most: i64, whole: i64| {
        let widths = (1..=most / unit).map(|count| count * unit).filter(|width| whole % width == 0);
        widths.map(label).collect::<Vec<_>>().join(", ")
    };
    format!(
        "candles cannot be {} wide: a width must divide 5 minutes, or be a multiple of 5 minutes that divides a day; \
         100ms, 200ms, 250ms, 500ms, {}, {} are possible",
        if us > 0 && us % MILLISECOND == 0 { label(us) } else { format!("{us} microseconds") },
        fitting(SECOND, BUCKET_US - 1, BUCKET_US),
        fitting(BUCKET_US, DAY, DAY)
    )
}

/// Checks a name that a caller gives to candles, which may stand behind the name of the schema.
pub fn parse_name(text: &str) -> Result<String> {
    let name = text.strip_prefix("market_data.").unwrap_or(text);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if first && rest && name.len() <= LONGEST_NAME {
        return Ok(name.to_owned());
    }
    Err(wrong(format!(
        "\"{text}\" cannot be the name of candles: it must begin with a letter, have lower-case letters, digits and \
         underscores only, and at most {LONGEST_NAME} of them"
    )))
}

fn wrong(what: String) -> Error {
    Error::InvalidArgument { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_that_fit_have_names_in_their_largest_unit() {
        for (us, name) in [
            (100 * MILLISECOND, "btc_ohlcv_100ms"),
            (SECOND, "btc_ohlcv_1s"),
            (90 * SECOND / 6 * 5, "btc_ohlcv_75s"),
            (MINUTE, "btc_ohlcv_1m"),
            (5 * MINUTE, "btc_ohlcv_5m"),
            (90 * MINUTE, "btc_ohlcv_90m"),
            (HOUR, "btc_ohlcv_1h"),
            (DAY, "btc_ohlcv_1d"),
        ] {
            let width = CandleWidth::new(us).unwrap();
            assert_eq!(width.default_name(CandleTime::Event), name);
            assert_eq!(width.default_name(CandleTime::Trade), format!("{name}_tt"));
            assert_eq!(width.as_us(), us);
        }
    }

    #[test]
    fn other_widths_are_refused_with_those_that_fit() {
        let odd = [0, -SECOND, 99 * MILLISECOND, 7 * SECOND, 100_500, 7 * MINUTE, 25 * MINUTE, 5 * HOUR, 2 * DAY];
        for us in odd.into_iter().chain([10 * MILLISECOND, i64::MAX, i64::MIN]) {
            let Err(error) = CandleWidth::new(us) else { panic!("{us} was accepted") };
            let message = error.to_string();
            assert!(message.contains("100ms") && message.contains(" 1m, ") && message.contains(" 1h, "), "{message}");
            assert!(message.contains(" 1d are possible") && !message.contains(" 7m,"), "{message}");
        }
    }

    #[test]
    fn a_name_is_a_plain_word_with_or_without_the_schema() {
        assert_eq!(parse_name("btc_ohlcv_1m"), Ok("btc_ohlcv_1m".into()));
        assert_eq!(parse_name("market_data._x9"), Ok("_x9".into()));
        for name in ["", "9a", "A", "a b", "a\"b", "public.a", "market_data.", "é", &"a".repeat(51)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_time_is_one_of_two() {
        assert_eq!("event_time".parse(), Ok(CandleTime::Event));
        assert_eq!("trade_time".parse(), Ok(CandleTime::Trade));
        assert!("ingested_at".parse::<CandleTime>().is_err());
    }
}
