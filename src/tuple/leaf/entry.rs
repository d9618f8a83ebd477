//! Forms index tuples, as `index_form_tuple` and `_bt_form_posting` do.

use super::Tid;

/// The longest text in a key that is formed here. PostgreSQL compresses longer ones.
pub const LONGEST_TEXT: usize = 400;
/// `INDEX_SIZE_MASK`.
const SIZE: u16 = 0x1fff;
/// `INDEX_ALT_TID_MASK`.
const ALTERNATIVE_TID: u16 = 0x2000;
/// `INDEX_VAR_MASK`.
const VARIABLE: u16 = 0x4000;
/// `BT_IS_POSTING`.
const POSTING: u16 = 0x2000;
/// The bytes of a tuple that come before its keys: place and size.
const HEADER: usize = 8;
/// `sizeof(ItemPointerData)`.
pub const TID: usize = 6;

/// How a key column lies in an index tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A value of 1, 2, 4 or 8 bytes with its alignment.
    Fixed {
        /// Bytes.
        len: usize,
        /// Bytes.
        align: usize,
    },
    /// A value with a length header, which is aligned only if the header has four bytes.
    Varlena {
        /// Bytes.
        align: usize,
    },
}

/// The value of a key column.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    /// A value that PostgreSQL passes by value.
    Fixed(u64),
    /// A value with a length header.
    Varlena {
        /// The address of the header.
        datum: u64,
        /// What follows the header.
        bytes: &'a [u8],
    },
}

/// Appends the tuple of one row, whose length is a multiple of 8, at a multiple of 8.
pub fn form(layouts: &[Layout], keys: &[Key<'_>], tid: Tid, out: &mut Vec<u8>) {
    let start = out.len();
    let pad = |out: &mut Vec<u8>, align: usize| out.resize(start + (out.len() - start).next_multiple_of(align), 0);
    out.extend_from_slice(&tid.bytes());
    out.extend_from_slice(&[0; 2]);
    let mut info = 0;
    for (layout, key) in layouts.iter().zip(keys) {
        match (*layout, *key) {
            (Layout::Fixed { len, align }, Key::Fixed(value)) => {
                pad(out, align);
                out.extend_from_slice(&value.to_le_bytes()[..len.min(8)]);
            }
            (Layout::Varlena { align }, Key::Varlena { bytes, .. }) => {
                info |= VARIABLE;
                if bytes.len() < 127 {
                    out.push(((bytes.len() + 1) << 1 | 1) as u8);
                } else {
                    pad(out, align);
                    out.extend_from_slice(&(((bytes.len() + 4) as u32) << 2).to_le_bytes());
                }
                out.extend_from_slice(bytes);
            }
            // Layouts and keys are made of the same columns.
            (Layout::Fixed { .. }, Key::Varlena { .. }) | (Layout::Varlena { .. }, Key::Fixed(_)) => {}
        }
    }
    pad(out, 8);
    let size = (out.len() - start) as u16;
    set_info(out, start, info | size);
}

/// Turns the last tuple, which begins at `start` and has the first of the places, into one with a list of places. They
/// are in order, and there are at least two.
pub fn add_places(out: &mut Vec<u8>, start: usize, tids: impl Iterator<Item = Tid>) {
    let keys = out.len() - start;
    let mut count = 0;
    for tid in tids {
        out.extend_from_slice(&tid.bytes());
        count += 1;
    }
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
    let info = u16::from_le_bytes([out[start + 6], out[start + 7]]);
    let size = (out.len() - start) as u16;
    out[start..start + 6].copy_from_slice(&Tid::new(keys as u32, count | POSTING).bytes());
    set_info(out, start, info & !SIZE | ALTERNATIVE_TID | size);
}

/// Returns how many places a tuple can have whose keys take `keys` bytes and which takes at most `most` bytes.
#[must_use]
pub fn places(keys: usize, most: usize) -> usize {
    (most & !7).saturating_sub(keys.max(HEADER)) / TID
}

fn set_info(out: &mut [u8], start: usize, info: u16) {
    out[start + 6..start + HEADER].copy_from_slice(&info.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: Layout = Layout::Fixed { len: 8, align: 8 };
    const FOUR: Layout = Layout::Fixed { len: 4, align: 4 };
    const TEXT: Layout = Layout::Varlena { align: 4 };

    fn text(bytes: &[u8]) -> Key<'_> {
        Key::Varlena { datum: 0, bytes }
    }

    #[test]
    fn a_short_text_is_not_aligned_and_an_integer_behind_it_is() {
        let mut out = Vec::new();
        form(&[TEXT, EIGHT], &[text(b"BTC"), Key::Fixed(5)], Tid::new(1, 2), &mut out);
        let expected = [[0, 0, 1, 0, 2, 0, 24, 0x40], [9, b'B', b'T', b'C', 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(out, expected.concat());
        form(&[FOUR, TEXT], &[Key::Fixed(5), text(b"x")], Tid::new(1, 2), &mut out);
        assert_eq!(out[24..], [[0, 0, 1, 0, 2, 0, 16, 0x40], [5, 0, 0, 0, 5, b'x', 0, 0]].concat());
    }

    #[test]
    fn a_long_text_has_a_header_of_four_aligned_bytes() {
        let long = [b'x'; 127];
        let mut out = Vec::new();
        form(&[Layout::Fixed { len: 1, align: 1 }, TEXT], &[Key::Fixed(1), text(&long)], Tid::new(0, 1), &mut out);
        assert_eq!(out[8..16], [1, 0, 0, 0, 0x0c, 2, 0, 0], "131 bytes");
        assert_eq!(out.len(), (16usize + 127).next_multiple_of(8));
        form(&[TEXT], &[text(&long[1..])], Tid::new(0, 1), &mut out);
        assert_eq!(out[144 + 8], 0xff, "127 bytes");
    }

    #[test]
    fn a_list_of_places_follows_the_keys() {
        let mut out = vec![0; 8];
        form(&[EIGHT], &[Key::Fixed(7)], Tid::new(0, 1), &mut out);
        add_places(&mut out, 8, [1, 2, 3].map(|offset| Tid::new(0, offset)).into_iter());
        let expected: [[u8; 8]; 5] = [
            [0, 0, 16, 0, 3, 0x20, 40, 0x20],
            [7, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 1, 0, 0, 0],
            [0, 0, 2, 0, 0, 0, 0, 0],
            [3, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(out[8..], expected.concat());
        assert_eq!(places(16, 40), 4);
        assert_eq!(places(16, 47), 4);
        assert_eq!(places(16, 15), 0);
    }
}
