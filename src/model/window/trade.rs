//! One trade of a slice.

/// One trade.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trade {
    /// Microseconds from the start of the bucket.
    pub offset_us: i64,
    /// The price. A trade whose price is not above 0 is left out.
    pub price: f64,
    /// The quantity. What is no quantity counts as 0.
    pub quantity: f64,
    /// Whether the taker bought. `None` if the file does not say it; then the last change of the price decides.
    pub taker_buys: Option<bool>,
}
