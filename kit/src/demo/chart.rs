//! Candles drawn with characters, one line each.

/// The characters of a line between the lowest and the highest price of all candles.
const WIDTH: usize = 60;

/// One candle.
#[derive(Debug, Clone)]
pub struct Candle {
    /// What stands before it.
    pub label: String,
    /// Open, high, low and close.
    pub prices: [f64; 4],
}

/// Draws candles: `─` from the lowest to the highest price, `█` from open to close of one that rose, `░` of one that
/// fell. The first line has the lowest and the highest price of all.
pub fn draw(candles: &[Candle]) -> String {
    let low = candles.iter().map(|candle| candle.prices[2]).fold(f64::INFINITY, f64::min);
    let high = candles.iter().map(|candle| candle.prices[1]).fold(f64::NEG_INFINITY, f64::max);
    let label = candles.iter().map(|candle| candle.label.chars().count()).max().unwrap_or_default();
    if candles.is_empty() {
        return String::new();
    }
    let place = |price: f64| {
        let share = if high > low { (price - low) / (high - low) } else { 0.0 };
        (share * (WIDTH - 1) as f64).round() as usize
    };
    let mut text = format!("{:label$}  {low:<width$.2}{high:.2}\n", "", width = WIDTH - format!("{high:.2}").len());
    for candle in candles {
        let [open, high, low, close] = candle.prices.map(place);
        let body = if candle.prices[3] >= candle.prices[0] { '█' } else { '░' };
        let line: String = (0..=high)
            .map(|at| match at {
                at if at < low => ' ',
                at if (open.min(close)..=open.max(close)).contains(&at) => body,
                _ => '─',
            })
            .collect();
        text += &format!("{:label$}  {line}\n", candle.label);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candle(label: &str, prices: [f64; 4]) -> Candle {
        Candle { label: label.into(), prices }
    }

    #[test]
    fn candles_stand_in_proportion_under_the_prices_of_their_ends() {
        let text = draw(&[candle("12:00", [0.0, 59.0, 0.0, 10.0]), candle("12:05", [30.0, 31.0, 20.0, 25.0])]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("       {:<55}59.00", "0.00"));
        assert_eq!(lines[1], format!("12:00  {}{}", "█".repeat(11), "─".repeat(49)));
        assert_eq!(lines[2], format!("12:05  {}{}{}─", " ".repeat(20), "─".repeat(5), "░".repeat(6)));
    }

    #[test]
    fn one_price_and_no_candle_are_drawn_as_well() {
        assert_eq!(draw(&[]), "");
        assert!(draw(&[candle("a", [5.0; 4])]).ends_with("a  █\n"));
    }
}
