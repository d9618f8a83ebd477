//! Texts of others, fit to be shown and stored.

/// Returns the text without control characters (each is written as its escape, e.g. `\u{0}`) and with at most `most`
/// characters of the original.
pub fn printable(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for c in text.chars().take(most) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    let left = text.chars().skip(most).count();
    if left > 0 {
        shown.push_str(&format!("… ({left} characters more)"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_texts_are_cut() {
        assert_eq!(printable("a\0b\nc é", 100), "a\\u{0}b\\nc é");
        assert_eq!(printable("abcdef", 4), "abcd… (2 characters more)");
        assert_eq!(printable("abcd", 4), "abcd");
    }
}
