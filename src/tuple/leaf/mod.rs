//! Leaf pages of PostgreSQL's B-trees as bytes: their layout, new tuples for them, and how far a run of tuples goes.
//!
//! The layout is that of PostgreSQL 15 (`storage/bufpage.h`, `access/itup.h`, `access/nbtree.h`), 64-bit and
//! little-endian. Nothing here touches memory of PostgreSQL: the caller hands over the bytes of a page that it has
//! locked, or those of a copy.

pub mod build;
pub mod entry;
pub mod order;
pub mod page;
pub mod plan;

/// The place of a row in its table: block and number within the block. Their order is that of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid {
    block: u32,
    offset: u16,
}

impl Tid {
    /// Makes a place from its parts.
    #[must_use]
    pub fn new(block: u32, offset: u16) -> Self {
        Self { block, offset }
    }

    /// Returns the bytes of an `ItemPointerData`: the halves of the block's number, the greater one first, and the
    /// number within the block.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        let [high, low, offset] = [(self.block >> 16) as u16, self.block as u16, self.offset].map(u16::to_le_bytes);
        [high[0], high[1], low[0], low[1], offset[0], offset[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_greater_half_of_its_block_first() {
        assert_eq!(Tid::new(0x0102_0304, 0x0506).bytes(), [2, 1, 4, 3, 6, 5]);
        assert!(Tid::new(1, 9) < Tid::new(2, 1));
        assert!(Tid::new(2, 1) < Tid::new(2, 2));
    }
}
