//! Builds an index page.

use super::page::{Bytes, HEADER, LINE_POINTER, NORMAL, PAGE, SPECIAL};

/// Makes an empty page, as `_bt_pageinit` does.
pub fn clear(page: &mut Bytes) {
    page.fill(0);
    put(page, 12, HEADER);
    put(page, 14, SPECIAL);
    put(page, 16, SPECIAL);
    // The size of the page and the version of its layout.
    put(page, 18, PAGE | 4);
}

/// Empties a page, but keeps its header and its links.
pub fn empty(page: &mut Bytes) {
    page[HEADER..SPECIAL].fill(0);
    put(page, 12, HEADER);
    put(page, 14, SPECIAL);
}

/// Inserts items one after another, the first as the item with this number, as `PageAddItem` does. Returns `false` if
/// they do not fit, or if the number is none of the page; the page is half changed then.
#[must_use]
pub fn insert<'a>(page: &mut Bytes, number: u16, items: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>) -> bool {
    let items = items.into_iter();
    let (lower, mut upper) = (get(page, 12), get(page, 14));
    let Some(before) = usize::from(number).checked_sub(1) else { return false };
    let at = HEADER + before * LINE_POINTER;
    let pointers = items.clone().count() * LINE_POINTER;
    if at > lower || lower + pointers > upper {
        return false;
    }
    page.copy_within(at..lower, at + pointers);
    for (index, item) in items.enumerate() {
        let size = item.len().next_multiple_of(8);
        if size > upper - (lower + pointers) {
            return false;
        }
        upper -= size;
        page[upper..upper + item.len()].copy_from_slice(item);
        let pointer = upper as u32 | NORMAL << 15 | (item.len() as u32) << 17;
        let at = at + index * LINE_POINTER;
        page[at..at + LINE_POINTER].copy_from_slice(&pointer.to_le_bytes());
    }
    put(page, 12, lower + pointers);
    put(page, 14, upper);
    true
}

fn get(page: &Bytes, at: usize) -> usize {
    usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
}

fn put(page: &mut Bytes, at: usize, value: usize) {
    page[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::page::{LEAF, Links, Page};
    use super::*;

    fn leaf() -> Bytes {
        let mut page = [0; PAGE];
        clear(&mut page);
        Links { previous: 0, next: 0, level: 0, flags: LEAF, cycle: 0 }.write(&mut page);
        page
    }

    fn items(page: &Bytes) -> Vec<u8> {
        let page = Page::read(page).unwrap();
        (1..=page.last()).map(|number| page.item(number)[0]).collect()
    }

    #[test]
    fn items_go_before_the_one_that_had_their_number() {
        let mut page = leaf();
        assert!(insert(&mut page, 1, [&[1u8; 16][..], &[4; 24]]));
        assert!(insert(&mut page, 2, [&[2u8; 16][..], &[3; 8]]));
        assert!(insert(&mut page, 5, [&[5u8; 16][..]]));
        assert_eq!(items(&page), [1, 2, 3, 4, 5]);
        let read = Page::read(&page).unwrap();
        assert_eq!(read.free(), SPECIAL - HEADER - 5 * 4 - 80);
        assert_eq!(read.used(1..6), 5 * 4 + 80);
        assert!(!insert(&mut page, 7, [&[5u8; 16][..]]), "a gap");
        assert!(!insert(&mut page, 0, [&[5u8; 16][..]]));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_just_fits_is_not() {
        let mut page = leaf();
        let item = [7u8; 804];
        assert!(insert(&mut page, 1, [&item[..]; 10]));
        assert_eq!(Page::read(&page).unwrap().free(), 32);
        let mut copy = page;
        assert!(!insert(&mut copy, 1, [&[1u8; 32][..]]));
        let mut copy = page;
        assert!(insert(&mut copy, 11, [&[1u8; 24][..]]));
        assert_eq!(Page::read(&copy).unwrap().free(), 4);
        assert!(!insert(&mut copy, 1, [&[1u8; 8][..]]));
    }

    #[test]
    fn an_emptied_page_keeps_its_header_and_its_links() {
        let mut page = leaf();
        page[..8].copy_from_slice(&[9; 8]);
        assert!(insert(&mut page, 1, [&[1u8; 16][..]]));
        let links = Links::read(&page);
        empty(&mut page);
        assert!(items(&page).is_empty());
        assert_eq!((Links::read(&page), &page[..8]), (links, &[9; 8][..]));
    }
}
