//! Numbers as a reader wants them.

/// Writes seconds in the unit that fits.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.2} ms", s * 1e3),
    }
}

/// Writes bytes in megabytes, with one digit after the point.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / (1 << 20) as f64)
}

/// Writes a number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a list item of Markdown, wrapped between words where a line would have more than 120 characters.
pub fn item(text: &str) -> String {
    const WIDTH: usize = 120;
    let mut lines = String::from("-");
    let mut width = 1;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width + 1 + length > WIDTH {
            lines.push_str("\n ");
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += 1 + length;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_readers() {
        assert_eq!(grouped(3_000_000), "3,000,000");
        assert_eq!(grouped(999), "999");
        assert_eq!(duration(123.4), "123 s");
        assert_eq!(duration(12.345), "12.35 s");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(0.00123), "1.23 ms");
    }

    #[test]
    fn a_long_item_is_wrapped() {
        assert_eq!(item("one two"), "- one two\n");
        let text = item(&["word"; 50].join(" "));
        assert!(text.lines().all(|line| line.len() <= 120));
        assert!(text.lines().skip(1).all(|line| line.starts_with("  word")));
        assert_eq!(text.split_whitespace().count(), 51);
    }
}
