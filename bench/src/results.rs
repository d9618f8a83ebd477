//! What was measured so far.

use std::collections::BTreeMap;

/// Where the time of one load went, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Breakdown {
    /// Waiting for S3, beside the backend.
    pub fetch: f64,
    /// Decoding and encoding, beside the backend.
    pub decode: f64,
    /// Inserting, in the backend.
    pub insert: f64,
    /// From call to return.
    pub elapsed: f64,
    /// The COMMIT after it.
    pub commit: f64,
}

/// The times of each row, one per round, and notes.
#[derive(Debug, Default)]
pub struct Results {
    seconds: BTreeMap<&'static str, Vec<f64>>,
    ticks: BTreeMap<&'static str, u64>,
    notes: BTreeMap<&'static str, String>,
    /// One for each load of the day.
    pub breakdown: Vec<Breakdown>,
    /// Whether a row has failed.
    pub failed: bool,
}

impl Results {
    /// Adds a run of a row that stored `ticks` ticks.
    pub fn add(&mut self, key: &'static str, seconds: f64, ticks: u64) {
        eprintln!("  {key:<18} {seconds:>9.3} s");
        self.seconds.entry(key).or_default().push(seconds);
        self.ticks.insert(key, ticks);
    }

    /// Notes something about a row, for example why it has no time. A later note replaces an earlier one.
    pub fn note(&mut self, key: &'static str, text: impl Into<String>) {
        self.notes.insert(key, text.into());
    }

    /// Marks a row as failed and drops its times: the other rows have times of more rounds, so no ratio would be right.
    pub fn fail(&mut self, key: &'static str) {
        self.failed = true;
        self.seconds.remove(key);
        self.note(key, "FAILED");
    }

    /// Returns the times of a row, one per round.
    pub fn seconds(&self, key: &str) -> &[f64] {
        self.seconds.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the ticks of one run of a row.
    pub fn ticks(&self, key: &str) -> u64 {
        self.ticks.get(key).copied().unwrap_or_default()
    }

    /// Returns the note about a row, or `""`.
    pub fn note_of(&self, key: &str) -> &str {
        self.notes.get(key).map_or("", String::as_str)
    }

    /// Returns the times of a row divided by those of another, round by round.
    pub fn ratios(&self, key: &str, against: &str) -> Vec<f64> {
        self.seconds(key).iter().zip(self.seconds(against)).map(|(time, base)| time / base).collect()
    }
}

/// Returns the middle value, or the mean of the two in the middle. Returns `None` if there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Returns the value that `part` of all values do not exceed. Returns `None` if there are no values.
pub fn percentile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Returns the smallest and the largest value. Returns `None` if there are no values.
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    Some((least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(range(&[4.0, 1.0, 2.0]), Some((1.0, 4.0)));
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 0.95), percentile(&values, 1.0)), (Some(95.0), Some(100.0)));
        assert_eq!((percentile(&[7.0], 0.95), percentile(&[], 0.5)), (Some(7.0), None));
    }
}
