//! Small statistics that several blocks need. All of them are defined for constant and for empty input.

/// A spread below this is none: a billionth, less than one tick of any price.
pub const TINY: f64 = 1e-9;

/// Returns the mean, or 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Returns mean and standard deviation over all values (divided by their number).
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
    (mean, if values.is_empty() { 0.0 } else { (squares / values.len() as f64).sqrt() })
}

/// Writes the values with mean 0 and spread 1; all 0 if they have no spread.
pub fn z_normalise(values: &[f64], into: &mut [f64]) {
    let (mean, spread) = mean_and_spread(values);
    for (value, z) in values.iter().zip(into) {
        *z = if spread < TINY { 0.0 } else { (value - mean) / spread };
    }
}

/// Returns the quantile at `part` of sorted values, linear between two of them (Hyndman and Fan's type 7).
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = part * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Returns the autocorrelation of values with mean 0 at a lag.
pub fn autocorrelation(values: &[f64], lag: usize) -> f64 {
    let shifted = values.get(lag..).unwrap_or_default();
    let products = values.iter().zip(shifted).map(|(one, other)| one * other).sum::<f64>();
    ratio(products, values.iter().map(|value| value * value).sum())
}

/// Returns the correlation of two series, or 0 if one of them is constant.
pub fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - mean_one, b - mean_other);
        both += a * b;
        square_one += a * a;
        square_other += b * b;
    }
    ratio(both, (square_one * square_other).sqrt())
}

/// Divides, and returns 0 where the divisor is nearly 0.
pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole.abs() < 1e-30 { 0.0 } else { part / whole }
}

/// Maps any number into -1 to 1; what is `width` away from `centre` is mapped to three quarters.
pub fn squash(value: f64, centre: f64, width: f64) -> f64 {
    ((value - centre) / width).tanh()
}

/// Returns the root of a part of a whole of `parts` equal ones: 1 if it is as large as the others.
pub fn root_share(part: f64, whole: f64, parts: usize) -> f64 {
    (ratio(part, whole) * parts as f64).max(0.0).sqrt()
}
