//! The plan of the GETs that read parts of an object: which bytes one GET fetches, and in which order.
//!
//! A request costs as much time as a megabyte, and money besides. So parts that lie close together are fetched by one
//! GET, also of several row groups. A row group that is too large to be in memory as a whole is fetched in pieces, each
//! part at the pace at which its rows are needed.

use std::ops::Range;

use crate::model::source::Part;

/// The most bytes that one GET fetches.
const LARGEST_GET: u64 = 4 << 20;
/// The GETs that are in memory at most: of nine columns that lie far apart, the one that is read and the next one.
const MOST_GETS: u64 = 18;
/// The least bytes of a GET, however little memory there is.
const SMALLEST_GET: u64 = 64 << 10;

/// The sizes of a plan's GETs, by the memory for bytes that are fetched and not yet read.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    memory: u64,
}

impl Sizes {
    /// Makes the sizes for at most this many bytes of memory.
    pub fn new(memory: u64) -> Self {
        Sizes { memory: memory.min(MOST_GETS * LARGEST_GET) }
    }

    /// Returns the memory that is used, in bytes.
    pub fn memory(self) -> u64 {
        self.memory
    }

    /// Returns the most bytes of one GET. While one is read, the next one is fetched.
    pub fn get(self) -> u64 {
        (self.memory / 2).clamp(SMALLEST_GET, LARGEST_GET)
    }

    /// Returns the most bytes between two parts that are fetched in vain rather than by another GET.
    fn gap(self) -> u64 {
        self.get() / 4
    }

    /// Returns the bytes of a row group that are fetched at once: the other half of the memory is for what follows.
    fn at_once(self) -> u64 {
        self.memory / 2
    }

    /// Returns how many bytes of a part are fetched at a time if its group has `total` bytes.
    fn stride(self, part: u64, total: u64) -> u64 {
        if total <= self.at_once() {
            return part.min(self.get());
        }
        let share = u128::from(self.at_once()) * u128::from(part) / u128::from(total.max(1));
        let least = (self.at_once() / 32).clamp(SMALLEST_GET, self.get());
        u64::try_from(share).unwrap_or(u64::MAX).clamp(least, self.get())
    }
}

/// A part by the number of its group, and by its number in that group.
pub type PartId = (usize, usize);

/// The bytes of a part that one GET fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The part.
    pub part: PartId,
    /// The bytes of the object.
    pub range: Range<u64>,
}

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// The bytes of the object.
    pub range: Range<u64>,
    /// The pieces that are in it.
    pub pieces: Vec<Piece>,
}

/// The GETs of an object in the order in which their bytes are needed.
#[derive(Debug)]
pub struct Plan {
    sizes: Sizes,
    groups: std::vec::IntoIter<Vec<Part>>,
    /// The number of the group after the current one.
    next_group: usize,
    /// The parts of the current group that are not planned to their end.
    rests: Vec<Rest>,
    /// The bytes that may be fetched in vain before a piece of the current group.
    gap: u64,
    /// The piece that did not fit into the last GET, and its gap.
    piece: Option<(Piece, u64)>,
}

/// The part of a part that is not planned yet.
#[derive(Debug)]
struct Rest {
    part: PartId,
    whole: Part,
    start: u64,
    stride: u64,
}

impl Rest {
    /// Returns when its next byte is needed: the fraction of the group's rows that are read before, and then the
    /// offset.
    fn order(&self) -> (u64, u64) {
        let first_row = self.whole.range.start + self.whole.head;
        let read = u128::from(self.start.saturating_sub(first_row)) << 32;
        let len = self.whole.range.end.saturating_sub(first_row).max(1);
        (u64::try_from(read / u128::from(len)).unwrap_or(u64::MAX), self.start)
    }
}

impl Plan {
    /// Plans the parts of groups that are read one after another; the parts of one group are read side by side.
    pub fn new(groups: Vec<Vec<Part>>, sizes: Sizes) -> Self {
        Plan { sizes, groups: groups.into_iter(), next_group: 0, rests: Vec::new(), gap: 0, piece: None }
    }

    fn next_piece(&mut self) -> Option<(Piece, u64)> {
        if let Some(piece) = self.piece.take() {
            return Some(piece);
        }
        while self.rests.is_empty() {
            self.begin_group()?;
        }
        let (index, rest) = self.rests.iter_mut().enumerate().min_by_key(|(_, rest)| rest.order())?;
        let end = rest.whole.range.end.min(rest.start.saturating_add(rest.stride));
        let piece = Piece { part: rest.part, range: rest.start..end };
        rest.start = end;
        if end == rest.whole.range.end {
            self.rests.remove(index);
        }
        Some((piece, self.gap))
    }

    fn begin_group(&mut self) -> Option<()> {
        let (group, sizes) = (self.next_group, self.sizes);
        let parts = self.groups.next()?;
        self.next_group += 1;
        let len = |part: &Part| part.range.end.saturating_sub(part.range.start);
        let total = parts.iter().map(len).fold(0, u64::saturating_add);
        // Between the pieces of a larger group lie bytes that are fetched later.
        self.gap = if total <= sizes.at_once() { sizes.gap() } else { 0 };
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.range.is_empty());
        self.rests = parts
            .map(|(number, part)| {
                // Pieces of one size, so that the last one is not tiny.
                let pieces = len(&part).div_ceil(sizes.stride(len(&part), total));
                let stride = len(&part).div_ceil(pieces);
                Rest { part: (group, number), start: part.range.start, whole: part, stride }
            })
            .collect();
        Some(())
    }

    /// Returns whether one GET should fetch the piece together with the bytes of `range`.
    fn fits(&self, range: &Range<u64>, piece: &Range<u64>, gap: u64) -> bool {
        range.start <= piece.start
            && piece.start <= range.end.saturating_add(gap)
            && range.end.max(piece.end) - range.start <= self.sizes.get()
    }
}

impl Iterator for Plan {
    type Item = Get;

    fn next(&mut self) -> Option<Get> {
        let (first, mut gap) = self.next_piece()?;
        let mut get = Get { range: first.range.clone(), pieces: vec![first] };
        while let Some((piece, next_gap)) = self.next_piece() {
            if !self.fits(&get.range, &piece.range, gap.min(next_gap)) {
                self.piece = Some((piece, next_gap));
                break;
            }
            gap = next_gap;
            get.range.end = get.range.end.max(piece.range.end);
            get.pieces.push(piece);
        }
        Some(get)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZES: Sizes = Sizes { memory: 16 * MIB };

    fn part(range: Range<u64>) -> Part {
        Part { range, head: 0 }
    }

    /// Makes `groups` groups of `parts` parts of `len` bytes, with `gap` bytes after each part.
    fn layout(groups: u64, parts: u64, len: u64, gap: u64) -> Vec<Vec<Part>> {
        let start = |group, number| (group * parts + number) * (len + gap);
        let group = |group| (0..parts).map(|n| part(start(group, n)..start(group, n) + len)).collect();
        (0..groups).map(group).collect()
    }

    /// Plans, and checks that every part is fetched once, in order and as a whole, and that no GET is too large.
    fn planned(groups: &[Vec<Part>], sizes: Sizes) -> Vec<Get> {
        let gets: Vec<Get> = Plan::new(groups.to_vec(), sizes).collect();
        let mut fetched: BTreeMap<PartId, u64> = BTreeMap::new();
        for get in &gets {
            assert!(get.range.end - get.range.start <= sizes.get(), "{get:?}");
            for piece in &get.pieces {
                let (group, number) = piece.part;
                let until = fetched.entry(piece.part).or_insert(groups[group][number].range.start);
                assert_eq!(*until, piece.range.start, "{piece:?}");
                assert!(get.range.start <= piece.range.start && piece.range.end <= get.range.end, "{get:?}");
                *until = piece.range.end;
            }
        }
        for (group, parts) in groups.iter().enumerate() {
            for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.range.is_empty()) {
                assert_eq!(fetched.get(&(group, number)), Some(&part.range.end));
            }
        }
        gets
    }

    #[test]
    fn small_row_groups_are_fetched_together() {
        // 22 MiB in 400 row groups of seven columns.
        let gets = planned(&layout(400, 7, 8_200, 0), SIZES);
        assert_eq!(gets.len(), 6);
        // The same with pages of other columns between them.
        assert_eq!(planned(&layout(400, 7, 8_200, 1_000), SIZES).len(), 7);
    }

    #[test]
    fn a_row_group_that_fits_into_half_of_the_memory_is_fetched_by_few_gets() {
        assert_eq!(planned(&layout(4, 7, MIB, 0), SIZES).len(), 7);
    }

    #[test]
    fn columns_that_lie_far_apart_are_fetched_by_a_get_each() {
        let groups = layout(3, 4, 8_000, 5 * MIB);
        let gets = planned(&groups, SIZES);
        assert_eq!(gets.len(), 12);
        assert!(gets.iter().all(|get| get.pieces.len() == 1));
        // What is fetched in vain is less than a quarter of a GET each time.
        assert_eq!(planned(&layout(3, 4, 8_000, MIB + 1), SIZES).len(), 12);
        assert!(planned(&layout(3, 4, 8_000, MIB), SIZES).len() <= 4);
    }

    #[test]
    fn a_huge_row_group_is_fetched_at_the_pace_of_its_rows() {
        let (lens, mut start) = ([40 * MIB, 8 * MIB, 40 * MIB, 1_000], 0);
        let parts = lens.map(|len| {
            start += len;
            part(start - len..start)
        });
        let groups = vec![parts.to_vec()];
        let gets = planned(&groups, SIZES);
        let total: u64 = lens.iter().sum();
        assert!(gets.len() as u64 <= total / (2 * MIB), "{}", gets.len());
        // At each moment, all columns are fetched up to about the same row.
        let mut until = [0u64; 4];
        for piece in gets.iter().flat_map(|get| &get.pieces) {
            let number = piece.part.1;
            until[number] = piece.range.end - groups[0][number].range.start;
            let row = |number: usize| until[number] as f64 / lens[number] as f64;
            let ahead = row(0).max(row(2)) - row(0).min(row(2));
            assert!(ahead <= 0.11, "{until:?}");
        }
    }

    #[test]
    fn no_byte_of_a_huge_row_group_is_fetched_twice() {
        let gets = planned(&layout(2, 9, 300_000, 0), Sizes { memory: 2 * MIB });
        let fetched: u64 = gets.iter().map(|get| get.range.end - get.range.start).sum();
        assert_eq!(fetched, 2 * 9 * 300_000);
    }

    #[test]
    fn a_dictionary_is_needed_before_all_rows() {
        let values = part(0..40 * MIB);
        let prices = Part { range: 40 * MIB..60 * MIB, head: 10 * MIB };
        let gets = planned(&[vec![values, prices]], SIZES);
        let fetched = gets.iter().position(|get| get.range.end >= 50 * MIB).unwrap();
        let values = gets[..fetched].iter().filter(|get| get.range.end <= 40 * MIB);
        assert!(values.count() <= 1, "{gets:?}");
    }

    #[test]
    fn ranges_that_overlap_or_go_backwards_are_fetched_as_they_are_needed() {
        // A hostile footer: the same bytes again and again, a chunk within another one, empty and reversed ones.
        let mut groups = layout(50, 1, 1_000, 0);
        groups.reverse();
        groups.push(vec![part(0..20 * MIB), part(5..5), part(7..9), part(0..20 * MIB), part(19 * MIB..20 * MIB)]);
        groups.push(vec![part(0..u64::MAX / 2), part(u64::MAX / 2 - 1..u64::MAX / 2)]);
        let sizes = Sizes { memory: u64::MAX };
        let gets: Vec<Get> = Plan::new(groups.clone(), sizes).take(10_000).collect();
        assert_eq!(gets.len(), 10_000);
        groups.pop();
        planned(&groups, SIZES);
        planned(&groups, Sizes { memory: 0 });
        assert_eq!(planned(&[], SIZES), []);
        assert_eq!(planned(&[vec![], vec![part(3..3)]], SIZES), []);
    }

    #[test]
    fn little_memory_makes_small_gets() {
        let sizes = Sizes { memory: MIB };
        let groups = layout(2, 9, 3 * MIB, 0);
        let gets = planned(&groups, sizes);
        assert!(gets.iter().all(|get| get.range.end - get.range.start <= MIB / 2));
    }
}
