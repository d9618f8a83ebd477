//! Decides how many rows go into a page and where it is split.

use super::Tid;
use super::entry;
use super::page::{CAPACITY, LINE_POINTER, PAGE};

/// A page is split for at least so many rows.
const WORTH_A_SPLIT: usize = 16;
/// A run of fewer rows is no gain: to find its page takes longer than to add the rows.
const POOR: usize = 8;
/// A run of so many rows says that more will follow.
const GOOD: usize = 64;
/// The most rows that are added one by one before a run is tried again.
const LONGEST_PAUSE: usize = 4096;
/// Part of a page that a list of places takes at most, as in an index that `CREATE INDEX` has made.
const LONGEST_LIST: usize = ((PAGE / 10) & !7) - LINE_POINTER;

/// What is known of the page on which the first row of a run belongs.
#[derive(Debug, Clone, Copy)]
pub struct Leaf {
    /// Bytes between its line pointers and its items.
    pub free: usize,
    /// Whether the row goes behind all of its items.
    pub at_end: bool,
    /// What the items before the row take; the high key does not count.
    pub before: usize,
    /// What the high key takes; 0 if there is none.
    pub high_key: usize,
    /// Whether its parent is known, so that a split can be completed.
    pub has_parent: bool,
    /// Whether the page has just been split so that the rows get pages of their own.
    pub is_border: bool,
}

/// How the index wants to be filled.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Bytes that a new page keeps free, by the fillfactor.
    pub keep_free: usize,
    /// Whether the next batch will come before this one, as in an index with a descending column. A page is then split
    /// just before the rows, so that the pages of later batches are full.
    pub comes_before: bool,
}

/// What to do with the rows that belong on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// PostgreSQL inserts the first row.
    Row,
    /// Rows go into the page, into so many bytes.
    Fill(usize),
    /// All items behind the rows move to a new page, and rows go into the page, into so many bytes.
    SplitAfter(usize),
    /// All items behind the rows move to a new page, and no row is added.
    SplitOnly,
    /// Rows go into a new page behind this one, into so many bytes.
    NewPage(usize),
}

/// Decides. `item` is what the first row takes, with its line pointer; `rows` belong there.
#[must_use]
pub fn plan(leaf: &Leaf, wishes: Wishes, item: usize, rows: usize) -> Plan {
    let full = CAPACITY.saturating_sub(wishes.keep_free);
    let new_page = Plan::NewPage(full.saturating_sub(leaf.high_key));
    if leaf.is_border && leaf.at_end && leaf.has_parent && rows >= WORTH_A_SPLIT {
        return new_page;
    }
    if leaf.free >= wishes.keep_free + item {
        return Plan::Fill(leaf.free - wishes.keep_free);
    }
    if !leaf.has_parent || rows < WORTH_A_SPLIT {
        return if leaf.free >= 2 * item { Plan::Fill(leaf.free) } else { Plan::Row };
    }
    if leaf.at_end {
        return new_page;
    }
    // The new high key has at most the keys of an item and a place.
    let room = full.saturating_sub(leaf.before + item + 8);
    let is_worth_it = room >= 2 * WORTH_A_SPLIT * item && !wishes.comes_before;
    if leaf.before == 0 || is_worth_it { Plan::SplitAfter(room) } else { Plan::SplitOnly }
}

/// Index tuples, one after another.
#[derive(Debug, Default)]
pub struct Items {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    rows: usize,
    is_full: bool,
}

impl Items {
    /// Returns the number of rows in them.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns whether more rows would have come in if there had been room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns the tuples in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.ends.len()).map(|at| self.get(at))
    }

    /// Returns the first tuple.
    #[must_use]
    pub fn first(&self) -> Option<&[u8]> {
        (!self.ends.is_empty()).then(|| self.get(0))
    }

    /// Returns the last tuple.
    #[must_use]
    pub fn last(&self) -> Option<&[u8]> {
        self.ends.len().checked_sub(1).map(|at| self.get(at))
    }

    fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    /// Forgets all tuples.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.rows = 0;
        self.is_full = false;
    }

    /// Takes rows from the first on until all are in or there is no more room. `form` appends the tuple of a row. With
    /// `lists`, rows with equal keys become one tuple with a list of places.
    pub fn pack(
        &mut self,
        rows: usize,
        mut room: usize,
        lists: Option<&dyn Fn(usize) -> bool>,
        form: impl Fn(usize, &mut Vec<u8>),
        tid: impl Fn(usize) -> Tid,
    ) {
        self.clear();
        while self.rows < rows {
            let start = self.bytes.len();
            form(self.rows, &mut self.bytes);
            let plain = self.bytes.len() - start;
            let most = LONGEST_LIST.min(room.saturating_sub(LINE_POINTER));
            let equal = lists.map_or(1, |repeats| {
                let most = entry::places(plain, most).min(rows - self.rows);
                (1..most).find(|next| !repeats(self.rows + next)).unwrap_or(most).max(1)
            });
            if equal > 1 {
                entry::add_places(&mut self.bytes, start, (0..equal).map(|next| tid(self.rows + next)));
            }
            let size = self.bytes.len() - start + LINE_POINTER;
            if size > room {
                self.bytes.truncate(start);
                self.is_full = true;
                return;
            }
            room -= size;
            self.ends.push(self.bytes.len());
            self.rows += equal;
        }
    }
}

/// Measures whether runs pay.
#[derive(Debug)]
pub struct Pace {
    one_by_one: usize,
    pause: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { one_by_one: 0, pause: POOR }
    }
}

impl Pace {
    /// Returns how many of the next `most` rows PostgreSQL inserts, because the last runs were short.
    pub fn pause(&mut self, most: usize) -> usize {
        let rows = self.one_by_one.min(most);
        self.one_by_one -= rows;
        rows
    }

    /// Notes the length of a run that was not ended by the end of its page.
    pub fn ran(&mut self, rows: usize) {
        if rows < POOR {
            self.one_by_one = self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else if rows >= GOOD {
            self.pause = POOR;
        }
    }
}

/// Returns how many of `most` rows come before a bound, given that they are in order.
pub fn before(most: usize, mut comes_before: impl FnMut(usize) -> bool) -> usize {
    if most > 0 && comes_before(most - 1) {
        return most;
    }
    let (mut low, mut high) = (0, most.saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if comes_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes = Wishes { keep_free: 819, comes_before: false };
    const LEAF: Leaf = Leaf { free: 4000, at_end: true, before: 4000, high_key: 0, has_parent: true, is_border: false };

    fn form(row: usize, out: &mut Vec<u8>) {
        let keys = [entry::Key::Fixed(row as u64 / 4)];
        entry::form(&[entry::Layout::Fixed { len: 8, align: 8 }], &keys, Tid::new(row as u32, 1), out);
    }

    fn tid(row: usize) -> Tid {
        Tid::new(row as u32, 1)
    }

    #[test]
    fn a_page_with_room_is_filled_up_to_the_fillfactor() {
        assert_eq!(plan(&LEAF, WISHES, 20, 1), Plan::Fill(4000 - 819));
        assert_eq!(plan(&Leaf { free: 839, ..LEAF }, WISHES, 20, 1), Plan::Fill(20));
        assert_eq!(plan(&Leaf { free: 838, ..LEAF }, WISHES, 20, 15), Plan::Fill(838), "too few for a page");
        assert_eq!(plan(&Leaf { free: 39, ..LEAF }, WISHES, 20, 15), Plan::Row);
        assert_eq!(plan(&Leaf { free: 39, has_parent: false, ..LEAF }, WISHES, 20, 99), Plan::Row);
    }

    #[test]
    fn rows_behind_a_full_page_get_a_new_page() {
        let full = Leaf { free: 100, ..LEAF };
        assert_eq!(plan(&full, WISHES, 20, 16), Plan::NewPage(8152 - 819));
        assert_eq!(plan(&Leaf { high_key: 28, ..full }, WISHES, 20, 16), Plan::NewPage(8152 - 819 - 28));
        let border = Leaf { is_border: true, ..LEAF };
        assert_eq!(plan(&border, WISHES, 20, 16), Plan::NewPage(8152 - 819), "although there is room");
        assert_eq!(plan(&border, WISHES, 20, 15), Plan::Fill(4000 - 819));
    }

    #[test]
    fn rows_before_others_of_a_full_page_stay_and_the_others_move() {
        let full = Leaf { free: 100, at_end: false, before: 0, ..LEAF };
        assert_eq!(plan(&full, WISHES, 20, 16), Plan::SplitAfter(8152 - 819 - 28));
        assert_eq!(plan(&Leaf { before: 4000, ..full }, WISHES, 20, 16), Plan::SplitAfter(8152 - 819 - 28 - 4000));
        assert_eq!(plan(&Leaf { before: 7000, ..full }, WISHES, 20, 16), Plan::SplitOnly, "no room beside them");
        let newest_first = Wishes { comes_before: true, ..WISHES };
        assert_eq!(plan(&Leaf { before: 4000, ..full }, newest_first, 20, 16), Plan::SplitOnly);
        assert_eq!(plan(&full, newest_first, 20, 16), Plan::SplitAfter(8152 - 819 - 28));
    }

    #[test]
    fn rows_are_taken_in_their_order_until_the_page_is_full() {
        let mut items = Items::default();
        items.pack(10, 65, None, form, tid);
        assert_eq!((items.rows(), items.iter().count(), items.is_full()), (3, 3, true), "20 bytes each");
        items.pack(2, 65, None, form, tid);
        assert_eq!((items.rows(), items.is_full()), (2, false));
        assert_eq!(items.first().map(|item| item[2]), Some(0));
        assert_eq!(items.last().map(|item| item[2]), Some(1));
        items.pack(2, 19, None, form, tid);
        assert_eq!((items.rows(), items.first(), items.last()), (0, None, None));
    }

    #[test]
    fn rows_with_equal_keys_become_lists_and_what_is_cut_comes_next() {
        let mut items = Items::default();
        let (rows, mut done) = (40, 0);
        let mut places = Vec::new();
        // In every room, so that lists are cut at every place.
        for room in (20..400).cycle().step_by(7) {
            if done == rows {
                break;
            }
            let repeats = |at: usize| !(done + at).is_multiple_of(4);
            items.pack(rows - done, room, Some(&repeats), |at, out| form(done + at, out), |at| tid(done + at));
            assert!(items.iter().map(|item| item.len() + 4).sum::<usize>() <= room);
            for item in items.iter() {
                let is_list = item[7] & 0x20 != 0;
                let count = if is_list { usize::from(item[4]) } else { 1 };
                let ids = if is_list { &item[16..16 + count * 6] } else { &item[..6] };
                places.extend(ids.chunks(6).map(|id| usize::from(id[2])));
            }
            done += items.rows();
        }
        assert_eq!(places, (0..rows).collect::<Vec<_>>());
    }

    #[test]
    fn a_list_takes_at_most_a_tenth_of_a_page() {
        let mut items = Items::default();
        items.pack(1000, 8000, Some(&|_| true), form, tid);
        assert_eq!(items.first().map(<[u8]>::len), Some(808));
        assert_eq!(items.rows(), 1000);
    }

    #[test]
    fn short_runs_are_tried_less_and_less_often() {
        let mut pace = Pace::default();
        let (mut tries, mut rows) = (0, 0);
        while rows < 100_000 {
            rows += pace.pause(1000) + 1;
            tries += 1;
            pace.ran(1);
        }
        assert!((20..150).contains(&tries), "{tries}");
        pace = Pace::default();
        pace.ran(1);
        assert_eq!((pace.pause(5), pace.pause(5), pace.pause(5)), (5, 3, 0));
        pace.ran(64);
        pace.ran(1);
        assert_eq!(pace.pause(100), 8, "a good run forgets");
        pace.ran(1);
        assert_eq!(pace.pause(100), 16);
    }

    #[test]
    fn the_rows_before_a_bound_are_found() {
        for most in 0..20 {
            for bound in 0..=most {
                assert_eq!(before(most, |row| row < bound), bound, "{bound} of {most}");
            }
        }
    }
}
