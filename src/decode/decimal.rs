//! Text, integers and floats as integers that count units of 10^-scale. A conversion is exact or fails; nothing is
//! rounded.

use std::io::Write;

/// Why a value cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is no number.
    NotANumber,
    /// It has significant digits beyond the scale.
    TooFine,
    /// Its units do not fit 128 bits, so it is out of every range used here.
    TooLarge,
    /// It is negative, and too wide or too fine for the exact value.
    Negative,
}

/// Powers of ten that fit 64 bits.
const POW10: [u64; 20] = {
    let mut table = [1; 20];
    let mut i = 1;
    while i < 20 {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

/// The most decimal digits that always fit 128 bits.
const MAX_DIGITS: i64 = 38;

/// Converts a decimal number in text: sign, digits with at most one dot, exponent; no spaces.
#[inline]
pub(super) fn from_text(text: &[u8], scale: u32) -> Result<i128, Misfit> {
    if let Some((digits, places)) = short(text)
        && places <= scale
    {
        return Ok(i128::from(digits) * i128::from(POW10[(scale - places) as usize]));
    }
    from_long_text(text, scale)
}

/// Converts a whole number in text, with an optional sign.
#[inline]
pub(super) fn integer_from_text(text: &[u8]) -> Result<i128, Misfit> {
    if let Some((digits, 0)) = short(text) {
        return if text.contains(&b'.') { Err(Misfit::NotANumber) } else { Ok(i128::from(digits)) };
    }
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Misfit::NotANumber);
    }
    from_long_text(text, 0)
}

/// Converts `value` units of 10^-`from` to units of 10^-`to`.
#[inline]
pub(super) fn rescale(value: i128, from: u32, to: u32) -> Result<i128, Misfit> {
    if from <= to {
        let factor = 10i128.checked_pow(to - from).ok_or(Misfit::TooLarge)?;
        return value.checked_mul(factor).ok_or(Misfit::TooLarge);
    }
    match 10i128.checked_pow(from - to) {
        Some(factor) if value % factor == 0 => Ok(value / factor),
        None if value == 0 => Ok(0),
        _ => Err(Misfit::TooFine),
    }
}

/// Converts a big-endian two's complement integer of any width, as Parquet stores decimals, from one scale to another.
pub(super) fn from_be_bytes(bytes: &[u8], from: u32, to: u32) -> Result<i128, Misfit> {
    let negative = bytes.first().ok_or(Misfit::NotANumber)? & 0x80 != 0;
    if bytes.len() <= 16 {
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        return rescale(i128::from_be_bytes(wide), from, to);
    }
    let (head, tail) = bytes.split_at(bytes.len() - 16);
    let sign = if negative { 0xff } else { 0 };
    if head.iter().all(|byte| *byte == sign) && (tail[0] & 0x80 != 0) == negative {
        return from_be_bytes(tail, from, to);
    }
    if negative {
        return Err(Misfit::Negative);
    }
    shrink(bytes, from, to)
}

/// Converts the shortest decimal that reads back as `value`.
pub(super) fn from_f64(value: f64, scale: u32) -> Result<i128, Misfit> {
    from_display(value.is_finite(), format_args!("{value:e}"), scale)
}

/// Converts the shortest decimal that reads back as `value`; 0.1 for 0.1f32.
pub(super) fn from_f32(value: f32, scale: u32) -> Result<i128, Misfit> {
    from_display(value.is_finite(), format_args!("{value:e}"), scale)
}

/// Converts the decimal with the fewest digits that `reads_back` accepts as the half-precision `value`.
pub(super) fn from_f16(value: f64, reads_back: impl Fn(f64) -> bool, scale: u32) -> Result<i128, Misfit> {
    // Five digits distinguish any two half-precision numbers.
    let digits = (0..4).find(|digits| format!("{value:.digits$e}").parse().is_ok_and(&reads_back)).unwrap_or(4);
    from_display(value.is_finite(), format_args!("{value:.digits$e}"), scale)
}

fn from_display(finite: bool, text: std::fmt::Arguments<'_>, scale: u32) -> Result<i128, Misfit> {
    // The longest text is one like -1.2345678901234567e-308.
    let mut buffer = [0u8; 32];
    let mut rest = &mut buffer[..];
    if !finite || rest.write_fmt(text).is_err() {
        return Err(Misfit::NotANumber);
    }
    let left = rest.len();
    from_text(&buffer[..32 - left], scale)
}

/// Parses up to 19 characters that are digits and at most one dot. Returns the digits as an integer, and how many of
/// them follow the dot.
#[inline]
fn short(text: &[u8]) -> Option<(u64, u32)> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let (mut digits, mut places, mut after_dot) = (0u64, 0u32, 0u32);
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            digits = digits * 10 + u64::from(digit);
            places += after_dot;
        } else if byte == b'.' && after_dot == 0 {
            after_dot = 1;
        } else {
            return None;
        }
    }
    (text.len() as u32 > after_dot).then_some((digits, places))
}

/// Converts the texts that [`short`] does not parse: signs, exponents, many digits.
#[cold]
fn from_long_text(text: &[u8], scale: u32) -> Result<i128, Misfit> {
    let negative = text.first() == Some(&b'-');
    let unsigned = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let dot = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match dot {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(Misfit::NotANumber);
    }
    let mut first = None;
    let mut last = 0;
    for (index, byte) in whole.iter().chain(fraction).enumerate() {
        if *byte != b'0' {
            first.get_or_insert(index);
            last = index;
        }
    }
    let Some(first) = first else { return Ok(0) };
    // The place of the last significant digit, counted in powers of ten.
    let lowest = (whole.len() as i64 - 1 - last as i64).saturating_add(exponent);
    let count = (last - first + 1) as i64;
    let scale = i64::from(scale);
    if lowest.saturating_add(count).saturating_add(scale) > MAX_DIGITS {
        return Err(if negative { Misfit::Negative } else { Misfit::TooLarge });
    }
    if lowest < -scale {
        return Err(if negative { Misfit::Negative } else { Misfit::TooFine });
    }
    let digits = whole.iter().chain(fraction).skip(first).take(count as usize);
    let value = digits.fold(0i128, |value, byte| value * 10 + i128::from(byte - b'0'));
    let value = value * 10i128.pow((lowest + scale) as u32);
    Ok(if negative { -value } else { value })
}

fn exponent(text: &[u8]) -> Result<i64, Misfit> {
    let negative = text.first() == Some(&b'-');
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Misfit::NotANumber);
    }
    // With a larger exponent, every number here is zero, too fine or too large.
    let value = digits.iter().fold(0i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(1_000_000_000_000));
    Ok(if negative { -value } else { value })
}

/// Converts a positive integer of more than 128 bits to a smaller scale, by repeated division by ten.
fn shrink(bytes: &[u8], from: u32, to: u32) -> Result<i128, Misfit> {
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    if significant.len() > 64 || from <= to {
        return Err(Misfit::TooLarge);
    }
    let mut limbs = significant.to_vec();
    for _ in 0..from - to {
        let mut remainder = 0u32;
        for limb in &mut limbs {
            let value = remainder << 8 | u32::from(*limb);
            *limb = (value / 10) as u8;
            remainder = value % 10;
        }
        if remainder != 0 {
            return Err(Misfit::TooFine);
        }
    }
    let zeros = limbs.iter().take_while(|limb| **limb == 0).count();
    if limbs.len() - zeros > 15 {
        return Err(Misfit::TooLarge);
    }
    Ok(limbs[zeros..].iter().fold(0i128, |value, limb| value << 8 | i128::from(*limb)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly() {
        for (text, units) in [
            ("65000.12", 6_500_012_000_000),
            ("0.00000001", 1),
            ("1", 100_000_000),
            ("1.", 100_000_000),
            (".5", 50_000_000),
            ("+1.5", 150_000_000),
            ("-1.5", -150_000_000),
            ("1e-5", 1_000),
            ("1.5E+2", 15_000_000_000),
            ("0.100000000000000000000000000000000000", 10_000_000),
            ("000000000000000000000000000000000001.0", 100_000_000),
            ("0e999999999999999999999999", 0),
            ("9999999999.99999999", 999_999_999_999_999_999),
        ] {
            assert_eq!(from_text(text.as_bytes(), 8), Ok(units), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", ".", "-", "+", "e5", "1e", "1e+", "1.2.3", " 1", "1 ", "1,5", "0x10", "NaN", "inf", "1_000", "--1", "١",
        ] {
            assert_eq!(from_text(text.as_bytes(), 8), Err(Misfit::NotANumber), "{text}");
        }
    }

    #[test]
    fn nothing_is_rounded_and_nothing_wraps() {
        assert_eq!(from_text(b"0.000000001", 8), Err(Misfit::TooFine));
        assert_eq!(from_text(b"1e-9", 8), Err(Misfit::TooFine));
        assert_eq!(from_text(b"1e-999999999999999999999", 8), Err(Misfit::TooFine));
        assert_eq!(from_text(b"1e999999999999999999999", 8), Err(Misfit::TooLarge));
        assert_eq!(from_text(&[b'9'; 5000], 8), Err(Misfit::TooLarge));
        assert_eq!(rescale(i128::MAX, 0, 8), Err(Misfit::TooLarge));
        assert_eq!(rescale(123, 2, 0), Err(Misfit::TooFine));
        assert_eq!(rescale(12_300, 2, 0), Ok(123));
        assert_eq!(rescale(5, 100, 0), Err(Misfit::TooFine));
    }

    #[test]
    fn whole_numbers_take_no_dot_and_no_exponent() {
        assert_eq!(integer_from_text(b"-42"), Ok(-42));
        assert_eq!(integer_from_text(b"18446744073709551615"), Ok(u64::MAX.into()));
        for text in ["4.0", "4.", "1e3", "", "-", " 4"] {
            assert_eq!(integer_from_text(text.as_bytes()), Err(Misfit::NotANumber), "{text}");
        }
    }

    #[test]
    fn floats_are_the_shortest_decimal_that_reads_back() {
        assert_eq!(from_f32(0.1, 8), Ok(10_000_000));
        assert_eq!(from_f64(0.1, 8), Ok(10_000_000));
        assert_eq!(from_f64(0.1 + 0.2, 8), Err(Misfit::TooFine));
        assert_eq!(from_f64(28_180.53, 8), Ok(2_818_053_000_000));
        assert_eq!(from_f64(f64::NAN, 8), Err(Misfit::NotANumber));
        assert_eq!(from_f64(f64::INFINITY, 8), Err(Misfit::NotANumber));
        assert_eq!(from_f64(f64::MAX, 8), Err(Misfit::TooLarge));
        assert_eq!(from_f64(f64::MIN_POSITIVE, 8), Err(Misfit::TooFine));
    }

    #[test]
    fn decimals_of_any_width_are_read() {
        let wide = |value: i128, width: usize| {
            let mut bytes = vec![if value < 0 { 0xff } else { 0 }; width];
            let start = width.saturating_sub(16);
            let tail = value.to_be_bytes();
            bytes[start..].copy_from_slice(&tail[16 - (width - start)..]);
            bytes
        };
        for width in [3, 8, 16, 17, 32, 40] {
            assert_eq!(from_be_bytes(&wide(123_456, width), 2, 8), Ok(123_456_000_000), "{width}");
            assert_eq!(from_be_bytes(&wide(-5, width), 0, 8), Ok(-500_000_000), "{width}");
        }
        // 65000.12 with 40 places takes 149 bits.
        let mut value = vec![0u8; 32];
        let mut limbs = 6_500_012u128.to_be_bytes().to_vec();
        for _ in 0..38 {
            let mut carry = 0u32;
            for limb in limbs.iter_mut().rev() {
                let product = u32::from(*limb) * 10 + carry;
                *limb = product as u8;
                carry = product >> 8;
            }
            if carry > 0 {
                limbs.insert(0, carry as u8);
            }
        }
        value[32 - limbs.len()..].copy_from_slice(&limbs);
        assert_eq!(from_be_bytes(&value, 40, 8), Ok(6_500_012_000_000));
        assert_eq!(from_be_bytes(&[], 2, 8), Err(Misfit::NotANumber));
        assert_eq!(from_be_bytes(&[0x7f; 32], 2, 8), Err(Misfit::TooLarge));
        assert_eq!(from_be_bytes(&[0x80; 32], 2, 8), Err(Misfit::Negative));
    }
}
