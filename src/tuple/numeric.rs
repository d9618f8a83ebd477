//! PostgreSQL's numeric in its short format, from fixed-point integers (`utils/adt/numeric.c`).
//!
//! A numeric is a header of 16 bits (sign, display scale, weight) and base-10000 digits without leading and trailing
//! zeros. The scales of price and quantity are multiples of four decimal places. So the base-10000 digits of the
//! integer are those of the numeric, without a shift.

use crate::model::tick::{PRICE_SCALE, QUANTITY_SCALE};

const BASE: u64 = 10_000;
const SHORT: u16 = 0x8000;
const DSCALE_SHIFT: u32 = 7;
const WEIGHT_MASK: i32 = 0x7f;

/// The longest encoding: header and six digits (24 decimal digits).
pub const MAX_LEN: usize = 2 + 6 * 2;

/// An encoded numeric without its length header.
#[derive(Debug, Clone, Copy)]
pub struct Numeric {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Numeric {
    /// Returns the bytes of the value.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// Encodes a price of `units` · 10^-8 as numeric(18,8). `units` must be above 0 and below 10^18.
#[inline]
pub fn price(units: i64) -> Numeric {
    let mut digits = [0u16; 6];
    let used = split(units as u64, &mut digits, 0);
    encode(&digits, used, PRICE_SCALE)
}

/// Encodes a quantity of `units` · 10^-12 as numeric(24,12). `units` must be above 0 and below 10^24.
#[inline]
pub fn quantity(units: i128) -> Numeric {
    const LOW: u128 = 1_000_000_000_000; // three digits
    let units = units as u128;
    let mut digits = [0u16; 6];
    let used = if units <= u128::from(u64::MAX) {
        split(units as u64, &mut digits, 0)
    } else {
        split((units % LOW) as u64, &mut digits, 0);
        split((units / LOW) as u64, &mut digits, 3)
    };
    encode(&digits, used, QUANTITY_SCALE)
}

/// Writes the base-10000 digits of `value`, least significant first, from `digits[at]` on. Returns the index after the
/// most significant digit.
#[inline]
fn split(mut value: u64, digits: &mut [u16; 6], mut at: usize) -> usize {
    while value > 0 {
        digits[at] = (value % BASE) as u16;
        value /= BASE;
        at += 1;
    }
    at
}

/// Encodes `digits[..used]`, least significant first; the first `scale / 4` of them are behind the point.
#[inline]
fn encode(digits: &[u16; 6], used: usize, scale: u32) -> Numeric {
    let first = digits[..used].iter().position(|&digit| digit != 0).unwrap_or(used);
    let weight = if used == 0 { 0 } else { used as i32 - 1 - (scale / 4) as i32 };
    let header = SHORT | (scale as u16) << DSCALE_SHIFT | (weight & WEIGHT_MASK) as u16;
    let mut bytes = [0u8; MAX_LEN];
    bytes[..2].copy_from_slice(&header.to_le_bytes());
    let mut len = 2;
    for &digit in digits[first..used].iter().rev() {
        bytes[len..len + 2].copy_from_slice(&digit.to_le_bytes());
        len += 2;
    }
    Numeric { bytes, len: len as u8 }
}

/// The longest encoding of a [`decimal`]: header and eleven digits, one more than 39 decimal digits need.
const MAX_DECIMAL: usize = 2 + 11 * 2;

/// An encoded numeric of any sign and scale, without its length header.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    bytes: [u8; MAX_DECIMAL],
    len: u8,
}

impl Decimal {
    /// Returns the bytes of the value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// Encodes a number of `units` · 10^-`scale`, where `scale` is a multiple of four below 64.
pub fn decimal(units: i128, scale: u32) -> Decimal {
    const NEGATIVE: u16 = 0x2000;
    let mut digits = [0u16; 11];
    let mut used = 0;
    let mut rest = units.unsigned_abs();
    while rest > 0 {
        digits[used] = (rest % u128::from(BASE)) as u16;
        rest /= u128::from(BASE);
        used += 1;
    }
    let first = digits[..used].iter().position(|&digit| digit != 0).unwrap_or(used);
    let weight = if used == 0 { 0 } else { used as i32 - 1 - (scale / 4) as i32 };
    let sign = if units < 0 { NEGATIVE } else { 0 };
    let header = SHORT | sign | (scale as u16) << DSCALE_SHIFT | (weight & WEIGHT_MASK) as u16;
    let mut bytes = [0u8; MAX_DECIMAL];
    bytes[..2].copy_from_slice(&header.to_le_bytes());
    let mut len = 2;
    for &digit in digits[first..used].iter().rev() {
        bytes[len..len + 2].copy_from_slice(&digit.to_le_bytes());
        len += 2;
    }
    Decimal { bytes, len: len as u8 }
}

/// Reads a decimal number as PostgreSQL writes it, in units of 10^-`scale`. Returns `None` for another text, NaN,
/// infinity, and a number that has more places or does not fit.
pub fn parse_units(text: &str, scale: u32) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || fraction.len() > scale as usize {
        return None;
    }
    let units: i128 = format!("{whole}{fraction:0<width$}", width = scale as usize).parse().ok()?;
    Some(if negative { -units } else { units })
}

/// Decodes a numeric without its length header into units of 10^-`scale`, where `scale` is a multiple of four. Returns
/// `None` for NaN and infinity, and for a value that has more places or does not fit.
#[inline]
pub fn units(bytes: &[u8], scale: u32) -> Option<i128> {
    let (words, _) = bytes.as_chunks::<2>();
    let (header, rest) = words.split_first()?;
    let header = u16::from_le_bytes(*header);
    let (negative, weight, digits) = match header & 0xc000 {
        0xc000 => return None,
        SHORT => {
            let weight = i32::from(header & 0x3f) - if header & 0x40 != 0 { 64 } else { 0 };
            (header & 0x2000 != 0, weight, rest)
        }
        sign => {
            let (weight, digits) = rest.split_first()?;
            (sign != 0, i32::from(i16::from_le_bytes(*weight)), digits)
        }
    };
    // The place of the last digit, in digits before the end of the value in units.
    let left = u32::try_from(weight + 1 + (scale / 4) as i32 - digits.len() as i32).ok()?;
    if digits.is_empty() {
        return Some(0);
    }
    let mut value: i128 = 0;
    for digit in digits {
        value = value.checked_mul(i128::from(BASE))?.checked_add(i128::from(u16::from_le_bytes(*digit)))?;
    }
    let value = value.checked_mul(i128::from(BASE).checked_pow(left)?)?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes header fields and digits: (dscale, weight, digits).
    fn parts(numeric: &Numeric) -> (u16, i32, Vec<u16>) {
        let words: Vec<u16> = numeric.as_bytes().chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let weight = i32::from(words[0] & 0x3f) - if words[0] & 0x40 != 0 { 64 } else { 0 };
        ((words[0] & 0x1f80) >> 7, weight, words[1..].to_vec())
    }

    #[test]
    fn a_price_keeps_its_scale_and_drops_trailing_zero_digits() {
        assert_eq!(parts(&price(6_543_210_000_000)), (8, 1, vec![6, 5432, 1000]));
        assert_eq!(parts(&price(100_000_000)), (8, 0, vec![1]));
        assert_eq!(parts(&price(1)), (8, -2, vec![1]));
        assert_eq!(parts(&price(999_999_999_999_999_999)), (8, 2, vec![99, 9999, 9999, 9999, 9999]));
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for value in [1, 9999, 10_000, 100_000_000, 6_543_210_000_000, 999_999_999_999_999_999] {
            assert_eq!(units(price(value).as_bytes(), 8), Some(value.into()));
        }
        for value in [1, 1_000_000_000_000, 100_000_000_000_000_000_000_001, 999_999_999_999_999_999_999_999] {
            assert_eq!(units(quantity(value).as_bytes(), 12), Some(value));
        }
    }

    #[test]
    fn a_decimal_of_any_sign_and_scale_decodes_to_itself() {
        let extremes = [i128::MAX, i128::MIN + 1];
        for value in [0, 1, -1, 9999, -10_000, 123_456_789_012_345_678_901_234_567].into_iter().chain(extremes) {
            for scale in [0, 8, 12, 20] {
                assert_eq!(units(decimal(value, scale).as_bytes(), scale), Some(value), "{value} of {scale}");
            }
        }
        assert_eq!(decimal(6_543_210_000_000, 8).as_bytes(), price(6_543_210_000_000).as_bytes());
        assert_eq!(decimal(1, 12).as_bytes(), quantity(1).as_bytes());
    }

    #[test]
    fn a_text_is_read_to_the_last_place() {
        assert_eq!(parse_units("10", 8), Some(1_000_000_000));
        assert_eq!(parse_units("0.00000001", 8), Some(1));
        assert_eq!(parse_units("-1.50", 12), Some(-1_500_000_000_000));
        assert_eq!(parse_units("7", 0), Some(7));
        assert_eq!(parse_units("7.000", 0), Some(7));
        for text in ["", ".", ".5", "-", "1e5", "NaN", "Infinity", "0.000000001", "1.2.3", "+1", " 1"] {
            assert_eq!(parse_units(text, 8), None, "{text}");
        }
        assert_eq!(parse_units(&"9".repeat(39), 8), None);
    }

    #[test]
    fn other_numerics_decode_as_well() {
        let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(units(&bytes(&[0x8400]), 8), Some(0), "zero has no digits");
        assert_eq!(units(&bytes(&[0xa400, 5]), 8), Some(-500_000_000), "a negative one");
        assert_eq!(units(&bytes(&[0x4008, 1, 5, 6]), 8), Some(-5_000_600_000_000), "the long format");
        assert_eq!(units(&bytes(&[0xc000]), 8), None, "NaN");
        assert_eq!(units(&bytes(&[0x8400 | 0x7d, 5]), 8), None, "a digit behind the last place");
        assert_eq!(units(&bytes(&[0x003f, 0x7fff, 5]), 8), None, "too large");
        assert_eq!(units(&[], 8), None);
    }

    #[test]
    fn a_quantity_reaches_24_digits() {
        assert_eq!(parts(&quantity(1)), (12, -3, vec![1]));
        assert_eq!(parts(&quantity(1_000_000_000_000)), (12, 0, vec![1]));
        assert_eq!(parts(&quantity(999_999_999_999_999_999_999_999)), (12, 2, vec![9999; 6]));
        assert_eq!(parts(&quantity(100_000_000_000_000_000_000_001)), (12, 2, vec![1000, 0, 0, 0, 0, 1]));
    }
}
