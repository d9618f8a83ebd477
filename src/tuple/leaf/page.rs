//! Reads an index page.

/// PostgreSQL's block size.
pub const PAGE: usize = 8192;
/// `SizeOfPageHeaderData`.
pub(super) const HEADER: usize = 24;
/// `sizeof(ItemIdData)`.
pub const LINE_POINTER: usize = 4;
/// Where a B-tree page has its links, a `BTPageOpaqueData` of 16 bytes.
pub(super) const SPECIAL: usize = PAGE - 16;
/// What the items of a page and their line pointers can take.
pub const CAPACITY: usize = SPECIAL - HEADER;
/// `LP_NORMAL`.
pub(super) const NORMAL: u32 = 1;

/// The bytes of a page.
pub type Bytes = [u8; PAGE];

/// `BTP_LEAF`.
pub const LEAF: u16 = 1;
/// `BTP_ROOT`.
pub const ROOT: u16 = 1 << 1;
/// `BTP_SPLIT_END`.
pub const SPLIT_END: u16 = 1 << 5;
/// `BTP_HAS_GARBAGE`.
pub const HAS_GARBAGE: u16 = 1 << 6;
/// `BTP_INCOMPLETE_SPLIT`.
pub const INCOMPLETE_SPLIT: u16 = 1 << 7;

/// The links of a B-tree page and what is known of it, a `BTPageOpaqueData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// The block to the left, or 0.
    pub previous: u32,
    /// The block to the right, or 0.
    pub next: u32,
    /// 0 for a leaf.
    pub level: u32,
    /// The `BTP_` flags.
    pub flags: u16,
    /// The vacuum that the last split was beside.
    pub cycle: u16,
}

impl Links {
    /// Reads the links of a page.
    #[must_use]
    pub fn read(page: &Bytes) -> Self {
        let word = |at: usize| u32_at(page, SPECIAL + at);
        let last = word(12);
        Self { previous: word(0), next: word(4), level: word(8), flags: last as u16, cycle: (last >> 16) as u16 }
    }

    /// Writes the links into a page.
    pub fn write(self, page: &mut Bytes) {
        let last = u32::from(self.flags) | u32::from(self.cycle) << 16;
        for (at, word) in [self.previous, self.next, self.level, last].into_iter().enumerate() {
            let at = SPECIAL + at * 4;
            page[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Returns the links without what a crash forgets: nbtree sets neither in recovery, and changes them without WAL.
    #[must_use]
    pub fn without_hints(self) -> Self {
        Self { flags: self.flags & !(SPLIT_END | HAS_GARBAGE), cycle: 0, ..self }
    }
}

/// A leaf page without dead items, whose layout has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    bytes: &'a Bytes,
    links: Links,
    items: u16,
    free: usize,
}

impl<'a> Page<'a> {
    /// Returns the page if new items may go into it: an ordinary leaf, whose splits are complete, without items that
    /// are marked as dead. Returns `None` for any other page, and for one whose layout is not as it should be.
    #[must_use]
    pub fn read(bytes: &'a Bytes) -> Option<Self> {
        let half = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let (lower, upper, special) = (half(12), half(14), half(16));
        let sound = (HEADER..=upper).contains(&lower)
            && upper <= special
            && special == SPECIAL
            && upper.is_multiple_of(8)
            && (lower - HEADER).is_multiple_of(LINE_POINTER);
        let links = Links::read(bytes);
        if !sound || links.flags & !(ROOT | SPLIT_END) != LEAF || links.level != 0 {
            return None;
        }
        let items = ((lower - HEADER) / LINE_POINTER) as u16;
        let page = Self { bytes, links, items, free: upper - lower };
        let has_all = page.links.next == 0 || items > 0;
        (has_all && (1..=items).all(|number| page.find(number).is_some())).then_some(page)
    }

    /// Returns its links.
    #[must_use]
    pub fn links(&self) -> Links {
        self.links
    }

    /// Returns its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a Bytes {
        self.bytes
    }

    /// Returns whether no page is to its right.
    #[must_use]
    pub fn is_rightmost(&self) -> bool {
        self.links.next == 0
    }

    /// Returns the number of its last item, counted from 1; 0 if it has none.
    #[must_use]
    pub fn last(&self) -> u16 {
        self.items
    }

    /// Returns the number of its first item that is not the high key.
    #[must_use]
    pub fn first(&self) -> u16 {
        if self.is_rightmost() { 1 } else { 2 }
    }

    /// Returns the bytes between line pointers and items.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free
    }

    /// Returns what the items of a range take, with their line pointers.
    #[must_use]
    pub fn used(&self, items: std::ops::Range<u16>) -> usize {
        items.map(|number| self.item(number).len().next_multiple_of(8) + LINE_POINTER).sum()
    }

    /// Returns an item; an empty one if the page has no such item.
    #[must_use]
    pub fn item(&self, number: u16) -> &'a [u8] {
        self.find(number).unwrap_or_default()
    }

    /// Returns an item that is not dead and lies within the page.
    fn find(&self, number: u16) -> Option<&'a [u8]> {
        if number == 0 || number > self.items {
            return None;
        }
        let pointer = u32_at(self.bytes, HEADER + usize::from(number - 1) * LINE_POINTER);
        let (at, state, len) = ((pointer & 0x7fff) as usize, pointer >> 15 & 3, (pointer >> 17) as usize);
        let inside = state == NORMAL && at >= HEADER && at.is_multiple_of(8) && len >= 8 && at + len <= SPECIAL;
        inside.then(|| &self.bytes[at..at + len])
    }
}

fn u32_at(bytes: &Bytes, at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;

    fn leaf(next: u32) -> Bytes {
        let mut page = [0; PAGE];
        build::clear(&mut page);
        Links { previous: 3, next, level: 0, flags: LEAF, cycle: 9 }.write(&mut page);
        page
    }

    #[test]
    fn links_are_read_as_they_were_written() {
        let links = Links { previous: 3, next: 5, level: 1, flags: LEAF | SPLIT_END | HAS_GARBAGE, cycle: 9 };
        let mut page = [0; PAGE];
        links.write(&mut page);
        assert_eq!(Links::read(&page), links);
        assert_eq!(links.without_hints(), Links { flags: LEAF, cycle: 0, ..links });
        assert_eq!(page[PAGE - 4..], [LEAF as u8 | 0x60, 0, 9, 0]);
    }

    #[test]
    fn a_page_that_no_item_may_be_added_to_is_not_read() {
        assert!(Page::read(&leaf(0)).is_some());
        assert!(Page::read(&leaf(5)).is_none(), "not the rightmost, and no high key");
        for flag in [HAS_GARBAGE, INCOMPLETE_SPLIT, 1 << 2, 1 << 3, 1 << 4, 1 << 8] {
            let mut page = leaf(0);
            let links = Links::read(&page);
            Links { flags: links.flags | flag, ..links }.write(&mut page);
            assert!(Page::read(&page).is_none(), "{flag}");
        }
        let mut inner = leaf(0);
        Links { level: 1, flags: 0, ..Links::read(&inner) }.write(&mut inner);
        assert!(Page::read(&inner).is_none());
        assert!(Page::read(&[0; PAGE]).is_none(), "a new page");
    }

    #[test]
    fn a_page_with_a_dead_item_or_one_outside_is_not_read() {
        let mut page = leaf(0);
        assert!(build::insert(&mut page, 1, [&[7u8; 16][..]]));
        assert_eq!(Page::read(&page).unwrap().item(1), [7; 16]);
        for pointer in [0x7fff, 3 << 15, 2 << 15, 0] {
            let mut bad = page;
            let old = u32_at(&page, HEADER);
            bad[HEADER..HEADER + 4].copy_from_slice(&((old & !(3 << 15)) | pointer).to_le_bytes());
            assert!(Page::read(&bad).is_none(), "{pointer:x}");
        }
    }
}
