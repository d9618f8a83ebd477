//! Counts the values of a nullable column that are not null: the ones among its definition levels of one bit.
//!
//! Only the padded INT96 pages of fastparquet need this count (see `Pages::trim`).

/// Counts the ones among the first `values` levels, which are stored as runs and as groups of eight bits. Returns
/// `None` if the levels end early.
pub(super) fn present(mut levels: &[u8], values: u32) -> Option<u64> {
    let (mut count, mut left) = (0, u64::from(values));
    while left > 0 {
        let (head, rest) = varint(levels)?;
        levels = rest;
        if head & 1 == 0 {
            let len = (head >> 1).min(left);
            let (value, rest) = levels.split_first()?;
            count += len * u64::from(value & 1);
            left -= len;
            levels = rest;
            if head >> 1 == 0 {
                return None;
            }
        } else {
            let groups = head >> 1;
            let len = groups.saturating_mul(8).min(left);
            count += ones(levels, len)?;
            left -= len;
            // The last group may be cut off after the bits that are needed.
            levels = levels.get(usize::try_from(groups).ok()?..).unwrap_or_default();
            if groups == 0 {
                return None;
            }
        }
    }
    Some(count)
}

fn ones(bytes: &[u8], bits: u64) -> Option<u64> {
    let whole = usize::try_from(bits / 8).ok()?;
    let full: u64 = bytes.get(..whole)?.iter().map(|byte| u64::from(byte.count_ones())).sum();
    match bits % 8 {
        0 => Some(full),
        part => Some(full + u64::from((bytes.get(whole)? & ((1 << part) - 1)).count_ones())),
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_groups_are_counted() {
        // Five ones, then a group of eight bits. It has three ones, but only its first six bits are levels.
        assert_eq!(present(&[10, 1, 3, 0b1000_0011], 11), Some(7));
        assert_eq!(present(&[10, 0, 10, 1], 10), Some(5));
    }

    #[test]
    fn levels_that_end_early_are_no_count() {
        assert_eq!(present(&[10, 1], 6), None);
        assert_eq!(present(&[0, 1], 1), None);
        assert_eq!(present(&[], 1), None);
    }
}
