//! The decoded size of a page in a delta encoding, computed before the page is decoded. Decoders allocate by the
//! counts in these pages' headers, and DELTA_BYTE_ARRAY repeats prefixes that the page holds only once.

use super::damage::damaged;
use crate::error::{Error, Result};

/// The most values in a block. Writers use 128.
const MAX_BLOCK: u64 = 1 << 20;

/// Checks the header of a run of DELTA_BINARY_PACKED integers, which may hold at most `values`. Returns their number.
pub(super) fn check_header(data: &[u8], values: u32) -> Result<u64> {
    Ok(Integers::new(data, values)?.left)
}

/// Returns the bytes that the values of a DELTA_BYTE_ARRAY page take with their prefixes.
pub(super) fn expanded_size(data: &[u8], values: u32) -> Result<u64> {
    let (prefixes, prefix_sum, end) = Integers::new(data, values)?.sum()?;
    let rest = data.get(end..).ok_or_else(|| damaged("a delta page ends within its prefix lengths"))?;
    let (suffixes, suffix_sum, _) = Integers::new(rest, values)?.sum()?;
    if prefixes != suffixes {
        return Err(damaged("a delta page has a different number of prefixes and suffixes"));
    }
    Ok(prefix_sum.saturating_add(suffix_sum))
}

struct Integers<'a> {
    data: &'a [u8],
    at: usize,
    miniblocks: usize,
    per_miniblock: usize,
    left: u64,
    value: i64,
}

impl<'a> Integers<'a> {
    fn new(data: &'a [u8], values: u32) -> Result<Self> {
        let mut this = Integers { data, at: 0, miniblocks: 0, per_miniblock: 0, left: 0, value: 0 };
        let block = this.varint()?;
        let miniblocks = this.varint()?;
        this.left = this.varint()?;
        this.value = this.zigzag()?;
        if block > MAX_BLOCK || miniblocks == 0 || block % 128 != 0 || block % miniblocks != 0 {
            return Err(damaged(format!("a delta page has blocks of {block} values in {miniblocks} parts")));
        }
        if this.left > u64::from(values) {
            return Err(damaged(format!("a delta page claims {} values, but the page has {values}", this.left)));
        }
        this.miniblocks = miniblocks as usize;
        this.per_miniblock = (block / miniblocks) as usize;
        if !this.per_miniblock.is_multiple_of(32) {
            return Err(damaged(format!("a delta page has {} values in a miniblock", this.per_miniblock)));
        }
        Ok(this)
    }

    /// Returns the number of the integers, their sum, and where they end. The integers must be lengths.
    fn sum(mut self) -> Result<(u64, u64, usize)> {
        let count = self.left;
        let mut sum = 0u64;
        if self.left > 0 {
            sum = self.length()?;
            self.left -= 1;
        }
        while self.left > 0 {
            let step = self.zigzag()?;
            let widths = self.at..self.at + self.miniblocks;
            self.at = widths.end;
            for index in widths {
                if self.left == 0 {
                    // The widths of miniblocks without values are arbitrary.
                    break;
                }
                let width = usize::from(*self.data.get(index).ok_or_else(ended)?);
                sum = sum.saturating_add(self.miniblock(width, step)?);
            }
        }
        Ok((count, sum, self.at))
    }

    fn miniblock(&mut self, width: usize, step: i64) -> Result<u64> {
        if width > 32 {
            return Err(damaged(format!("a delta page has lengths of {width} bits")));
        }
        let values = self.left.min(self.per_miniblock as u64) as usize;
        let packed = self.data.get(self.at..).unwrap_or_default();
        if packed.len() < (values * width).div_ceil(8) {
            return Err(ended());
        }
        let (mut sum, mut bits, mut have, mut next) = (0u64, 0u64, 0usize, 0usize);
        for _ in 0..values {
            while have < width {
                bits |= u64::from(packed[next]) << have;
                next += 1;
                have += 8;
            }
            let delta = bits & ((1u64 << width) - 1);
            bits >>= width;
            have -= width;
            self.value = i64::from(self.value.wrapping_add(step).wrapping_add(delta as i64) as i32);
            sum = sum.saturating_add(self.length()?);
        }
        self.left -= values as u64;
        self.at += width * self.per_miniblock / 8;
        Ok(sum)
    }

    fn length(&self) -> Result<u64> {
        u64::try_from(self.value).map_err(|_| damaged("a delta page has a negative length"))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.data.get(self.at).ok_or_else(ended)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a delta page has an integer of more than 64 bits"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

fn ended() -> Error {
    damaged("a delta page ends early")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a block of 128 in 4 miniblocks with `count` values, all equal to `value`, which must be below 64.
    fn constant(count: u8, value: u8) -> Vec<u8> {
        let mut bytes = vec![0x80, 1, 4, count, value << 1];
        if count > 1 {
            bytes.extend([0, 0, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn a_page_grows_to_all_prefixes_and_suffixes() {
        let page = [constant(100, 60), constant(100, 1)].concat();
        assert_eq!(expanded_size(&page, 100).unwrap(), 6100);
    }

    #[test]
    fn a_count_beyond_the_page_is_refused() {
        assert!(check_header(&constant(100, 1), 99).is_err());
        assert_eq!(check_header(&constant(100, 1), 100).unwrap(), 100);
    }

    #[test]
    fn packed_deltas_are_followed() {
        // First 0, then deltas of 1 bit with minimum 0: 1 0 1 0 …. So 33 values increase by one at every second step.
        let mut page = vec![0x80, 1, 4, 33, 0, 0, 1, 0, 0, 0];
        page.extend([0x55; 4]);
        let sum: u64 = (1..=32u64).map(|i| i.div_ceil(2)).sum();
        let (count, total, end) = Integers::new(&page, 33).unwrap().sum().unwrap();
        assert_eq!((count, total, end), (33, sum, page.len()));
    }
}
