//! Random numbers by a seed, and numbers and bytes that hurt.

/// The generator SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.bits() % end as u64) as usize }
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// Returns a number that is next to `value`, or an end of a type, or any number.
    pub fn number_near(&mut self, value: i64) -> i64 {
        const ENDS: [i64; 14] = [
            0,
            1,
            -1,
            i8::MAX as i64,
            i16::MAX as i64,
            u16::MAX as i64,
            i32::MAX as i64,
            i32::MAX as i64 + 1,
            i32::MIN as i64,
            u32::MAX as i64,
            1 << 40,
            i64::MAX - 1,
            i64::MAX,
            i64::MIN,
        ];
        match self.below(5) {
            0 | 1 => ENDS[self.below(ENDS.len())],
            2 => value.wrapping_add(self.below(17) as i64 - 8),
            3 => value.wrapping_mul(1 << self.below(34)),
            _ => self.bits() as i64 >> self.below(64),
        }
    }

    pub fn length_near(&mut self, len: usize) -> u64 {
        self.number_near(len as i64) as u64
    }

    /// Changes bytes: some bits, a run, or the length.
    pub fn spoil(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return bytes.push(self.bits() as u8);
        }
        let at = self.below(bytes.len());
        match self.below(6) {
            0 | 1 => {
                for _ in 0..=self.below(4) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
            2 => {
                let end = (at + 1 + self.below(16)).min(bytes.len());
                let with = [0, 0xff, 0x80, 0x7f][self.below(4)];
                bytes[at..end].fill(with);
            }
            3 => bytes.truncate(at),
            4 => {
                let more = self.below(64);
                let tail = bytes[at..(at + more).min(bytes.len())].to_vec();
                bytes.splice(at..at, tail);
            }
            _ => bytes[at] = self.bits() as u8,
        }
    }
}
