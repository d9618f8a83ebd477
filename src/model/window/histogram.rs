//! A histogram on a logarithmic scale, fine enough to be moved to another centre when all values are known.

/// Fine bins of an octave.
const FINE: f64 = 16.0;
/// Keeps powers of two and of ten away from the edges of the fine bins, where a rounding error would decide.
const OFFSET: f64 = 0.3719;
/// Octaves below and above 1.
const OCTAVES: i32 = 64;
const BINS: usize = 2 * OCTAVES as usize * FINE as usize;

/// How often values of each size came.
#[derive(Debug, Clone)]
pub struct LogHistogram {
    bins: Vec<u32>,
    /// Values above 0.
    pub count: u64,
    sum: f64,
}

impl Default for LogHistogram {
    fn default() -> Self {
        LogHistogram { bins: vec![0; BINS], count: 0, sum: 0.0 }
    }
}

impl LogHistogram {
    /// Adds a value above 0.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let octaves = value.log2();
        let bin = (octaves * FINE + OFFSET).floor() + f64::from(OCTAVES) * FINE;
        let bin = (bin.max(0.0) as usize).min(BINS - 1);
        self.bins[bin] = self.bins[bin].saturating_add(1);
        self.count += 1;
        self.sum += octaves;
    }

    /// Returns the mean of the binary logarithms, or 0 of nothing.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// Writes which part of `total` lies around each centre: `centre - half`, …, one octave apart. A value between two
    /// centres counts for both, in proportion; one beyond the ends counts for the end.
    pub fn spread(&self, centre: f64, total: f64, parts: &mut [f64]) {
        let last = parts.len() - 1;
        let half = last as f64 / 2.0;
        for (bin, count) in self.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let octaves = (bin as f64 + 0.5 - OFFSET) / FINE - f64::from(OCTAVES);
            let place = (octaves - centre + half).clamp(0.0, last as f64);
            let below = (place.floor() as usize).min(last);
            let part = f64::from(*count) / total;
            let above = place - below as f64;
            parts[below] += part * (1.0 - above);
            parts[(below + 1).min(last)] += part * above;
        }
    }
}
