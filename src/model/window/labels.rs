//! What followed a window, from the trades behind it.

use super::trade::Trade;
use crate::model::bucket::BUCKET_US;

/// Microseconds of a step of the realised volatility.
const STEP_US: i64 = 10_000_000;

/// What followed a window over one horizon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// Logarithm of the last price before the horizon's end, less that of the window's last price.
    pub change: f64,
    /// Root of the sum of squared changes of the logarithm over steps of ten seconds.
    pub volatility: f64,
}

/// What is kept of a bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    start: i64,
    /// Logarithm of the last price.
    close: f64,
    /// Sum of squared changes over the steps up to the end of this bucket, since the first one.
    squares: f64,
}

/// The trades of one asset, summed up by bucket.
#[derive(Debug, Default)]
pub struct Labels {
    buckets: Vec<Bucket>,
    /// Ranges in which ticks are missing or may be, disjoint and ascending.
    missing: Vec<(i64, i64)>,
    /// Everything before it is stored.
    reach: i64,
    squares: f64,
    /// The step of the last trade, the last price before it, and the last price.
    step: i64,
    before: Option<f64>,
    last: Option<f64>,
}

impl Labels {
    /// Begins with the ranges (end exclusive) that are not complete.
    pub fn new(mut missing: Vec<(i64, i64)>) -> Self {
        missing.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (from, to) in missing {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Labels { missing: merged, reach: i64::MIN, ..Labels::default() }
    }

    /// Adds a trade. Trades come in the order of time.
    pub fn add(&mut self, bucket: i64, trade: &Trade) {
        let time = bucket + trade.offset_us;
        self.reach = self.reach.max(time);
        if !(trade.price > 0.0 && trade.price.is_finite()) {
            return;
        }
        let log = trade.price.ln();
        let step = time.div_euclid(STEP_US);
        if step != self.step {
            self.close_step();
            (self.step, self.before) = (step, self.last.or(Some(log)));
        }
        self.last = Some(log);
        match self.buckets.last_mut() {
            Some(known) if known.start == bucket => known.close = log,
            _ => self.buckets.push(Bucket { start: bucket, close: log, squares: 0.0 }),
        }
        // The step is not over; its change so far counts for the bucket.
        let open = self.before.map_or(0.0, |before| (log - before) * (log - before));
        if let Some(known) = self.buckets.last_mut() {
            known.squares = self.squares + open;
        }
    }

    fn close_step(&mut self) {
        if let (Some(before), Some(last)) = (self.before, self.last) {
            self.squares += (last - before) * (last - before);
        }
    }

    /// Notes that there is a later trade, so that everything before a time is stored.
    pub fn reach_to(&mut self, time: i64) {
        self.reach = self.reach.max(time);
    }

    /// Returns what followed the window of a bucket over a horizon in microseconds, if the horizon is over and nothing
    /// in it is missing.
    pub fn label(&self, bucket: i64, horizon: i64) -> Option<Label> {
        let (from, to) = (bucket + BUCKET_US, bucket + BUCKET_US + horizon);
        if self.reach < to || self.is_missing(bucket, to) {
            return None;
        }
        let at = |time: i64| {
            let after = self.buckets.partition_point(|known| known.start < time);
            self.buckets.get(after.checked_sub(1)?)
        };
        let (start, end) = (at(from)?, at(to)?);
        let squares = (end.squares - start.squares).max(0.0);
        Some(Label { change: end.close - start.close, volatility: squares.sqrt() })
    }

    fn is_missing(&self, from: i64, to: i64) -> bool {
        let next = self.missing.partition_point(|(_, end)| *end <= from);
        self.missing.get(next).is_some_and(|(start, _)| *start < to)
    }
}

/// Returns the name of a horizon in the labels, e.g. `5m`, `1h` or `2d`.
pub fn horizon_name(horizon: i64) -> String {
    let minutes = horizon / 60_000_000;
    match minutes {
        _ if minutes % 1_440 == 0 => format!("{}d", minutes / 1_440),
        _ if minutes % 60 == 0 => format!("{}h", minutes / 60),
        _ => format!("{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(time: i64, price: f64) -> (i64, Trade) {
        let bucket = time - time.rem_euclid(BUCKET_US);
        (bucket, Trade { offset_us: time - bucket, price, quantity: 1.0, taker_buys: None })
    }

    fn labels(missing: &[(i64, i64)]) -> Labels {
        let mut labels = Labels::new(missing.to_vec());
        let second = 1_000_000;
        for (time, price) in
            [(0, 100.0), (299, 101.0), (305, 102.0), (308, 103.0), (310, 101.0), (601, 99.0), (900, 98.0)]
        {
            let (bucket, trade) = trade(time * second, price);
            labels.add(bucket, &trade);
        }
        labels
    }

    #[test]
    fn a_label_is_the_change_of_the_price_and_the_sum_of_its_steps() {
        let found = labels(&[]).label(0, BUCKET_US).unwrap();
        assert!((found.change - (101.0_f64 / 101.0).ln()).abs() < 1e-12, "{found:?}");
        // From 101 to 103 in the first ten seconds, then to 101.
        let wanted = ((103.0_f64 / 101.0).ln().powi(2) + (101.0_f64 / 103.0).ln().powi(2)).sqrt();
        assert!((found.volatility - wanted).abs() < 1e-12, "{found:?}, {wanted}");
        let found = labels(&[]).label(0, 2 * BUCKET_US).unwrap();
        assert!((found.change - (99.0_f64 / 101.0).ln()).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_horizon_that_is_not_over_or_not_complete_has_no_label() {
        assert!(labels(&[]).label(0, 3 * BUCKET_US).is_none());
        let mut later = labels(&[]);
        later.reach_to(4 * BUCKET_US);
        assert!(later.label(0, 3 * BUCKET_US).is_some());
        assert!(labels(&[(2 * BUCKET_US - 1, 2 * BUCKET_US)]).label(0, BUCKET_US).is_none());
        assert!(labels(&[(2 * BUCKET_US, 3 * BUCKET_US)]).label(0, BUCKET_US).is_some());
        assert!(labels(&[(0, 5)]).label(BUCKET_US, BUCKET_US).is_some());
    }

    #[test]
    fn a_horizon_is_named_by_its_greatest_unit() {
        let minute = 60_000_000;
        let names = [5, 60, 90, 1_440, 2_880].map(|minutes| horizon_name(minutes * minute));
        assert_eq!(names, ["5m", "1h", "90m", "1d", "2d"]);
    }
}
