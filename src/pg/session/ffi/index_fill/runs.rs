//! In runs: all rows that belong on one leaf are written at once.
//!
//! The rows of a batch are put into the order of the index first. Then nbtree's own search finds the leaf of the next
//! row. All following rows that come before the item behind it, or before the leaf's high key, go there as well: no
//! other place in the index is right for them. Special cases are left to PostgreSQL, row by row: a key that may
//! be there already, dead items, the root, a leaf that is full and gets too few rows for a page of its own.

use std::ffi::c_int;

use pgrx::pg_sys;

use super::calls::{_bt_metaversion, Options};
use super::index::{Index, Row};
use super::keys::Keys;
use super::leaf::{Aligned, HIGH_KEY, Leaf};
use super::rows;
use super::scratch::Scratch;
use super::write::{Split, Writer};
use crate::tuple::leaf::order::Sorted;
use crate::tuple::leaf::page::{LINE_POINTER, PAGE, Page, ROOT};
use crate::tuple::leaf::plan::{self, Items, Pace, Plan, Wishes};

/// Fewer rows are entered one by one.
const FEWEST: usize = 8;
/// More rows never fit into a page, not even as lists.
const MOST: usize = PAGE / 6;

/// Enters all rows in runs. Returns `false`, and has entered nothing, if the index is not one that can be filled so.
pub fn fill(index: &Index, rows: &mut [Row<'_>]) -> bool {
    if rows.len() < FEWEST {
        return false;
    }
    let scratch = Scratch::new();
    let Some((wishes, lists)) = properties(index, &scratch) else { return false };
    let Some(keys) = Keys::read(index, rows) else { return false };
    let filler = Filler {
        index,
        sorted: keys.sorted(index.descending),
        keys,
        wishes,
        lists,
        writer: Writer::new(index.relation, &scratch),
        scratch: &scratch,
        items: Items::default(),
        bytes: Vec::new(),
        first: Aligned::new(),
        other: Aligned::new(),
        is_border: false,
    };
    filler.fill(rows);
    true
}

/// Returns how the index wants to be filled, and whether it has lists of places. Returns `None` if it is no B-tree of
/// the present version.
fn properties(index: &Index, scratch: &Scratch) -> Option<(Wishes, bool)> {
    let relation = index.relation;
    // SAFETY: the index is open.
    let method = unsafe { (*(*relation).rd_rel).relam };
    if method != pg_sys::BTREE_AM_OID {
        return None;
    }
    let (heap_key_space, all_equal_image) = scratch.guarded(|| {
        let mut answers = (false, false);
        // SAFETY: the index is an open B-tree.
        unsafe { _bt_metaversion(relation, &raw mut answers.0, &raw mut answers.1) };
        answers
    });
    // SAFETY: the options of an open B-tree are null or a BTOptions.
    let options = unsafe { (*relation).rd_options.cast::<Options>().as_ref() };
    let (fillfactor, deduplicate) = options.map_or((90, true), |options| (options.fillfactor, options.deduplicate));
    let keep_free = PAGE * (100 - fillfactor.clamp(10, 100) as c_int as usize) / 100;
    let wishes = Wishes { keep_free, comes_before: index.descending };
    heap_key_space.then_some((wishes, all_equal_image && deduplicate && !index.unique))
}

/// What came of a try to enter a run.
enum Ran {
    /// Nothing was entered: PostgreSQL must enter the first rows.
    Nothing { by_row: usize },
    /// So many rows were entered, perhaps none before the next try. The page was full, or not.
    Rows { count: usize, full: bool },
}

const NOTHING: Ran = Ran::Nothing { by_row: 1 };

/// The rows of a batch on their way into an index.
struct Filler<'a> {
    index: &'a Index,
    keys: Keys<'a>,
    sorted: Sorted,
    wishes: Wishes,
    lists: bool,
    writer: Writer<'a>,
    scratch: &'a Scratch,
    items: Items,
    bytes: Vec<u8>,
    first: Aligned,
    other: Aligned,
    /// Whether the last try has split a page just before the next row and entered nothing.
    is_border: bool,
}

impl Filler<'_> {
    fn fill(mut self, rows: &mut [Row<'_>]) {
        let mut pace = Pace::default();
        let mut at = 0;
        while at < self.sorted.len() {
            pgrx::check_for_interrupts!();
            let left = self.sorted.len() - at;
            let by_row = if left < FEWEST { left } else { pace.pause(left) };
            let ran = if by_row > 0 { Ran::Nothing { by_row } } else { self.run(at, &mut pace) };
            at += match ran {
                Ran::Rows { count, .. } => count,
                Ran::Nothing { by_row } => {
                    rows::fill_some(self.index, rows, self.sorted.rows(at, by_row));
                    by_row
                }
            };
            self.scratch.reset();
        }
    }

    /// Enters a run, and notes how long it was.
    fn run(&mut self, at: usize, pace: &mut Pace) -> Ran {
        let ran = self.try_run(at);
        match ran {
            Ran::Nothing { .. } => pace.ran(0),
            Ran::Rows { count, full } if !full || count >= 64 => pace.ran(count),
            Ran::Rows { .. } => {}
        }
        ran
    }

    fn try_run(&mut self, at: usize) -> Ran {
        if !form(&self.keys, self.sorted.row(at), &mut self.bytes, &mut self.first) {
            return NOTHING;
        }
        let item = self.bytes.len() + LINE_POINTER;
        let Some(leaf) = Leaf::find(self.index, &self.first, self.scratch) else { return NOTHING };
        let Some((count, plan)) = self.plan(&leaf, at, item) else {
            leaf.release(self.scratch);
            return NOTHING;
        };
        let number = leaf.number;
        let (room, split) = match plan {
            Plan::Row => (0, None),
            Plan::Fill(room) => (room, None),
            Plan::SplitAfter(room) => (room, Some(Split { at: number, to_right: false })),
            Plan::SplitOnly => (0, Some(Split { at: number, to_right: false })),
            Plan::NewPage(room) => (room, Some(Split { at: number, to_right: true })),
        };
        self.pack(at, count, room);
        let entered = match split {
            _ if plan != Plan::SplitOnly && self.items.rows() == 0 => {
                leaf.release(self.scratch);
                false
            }
            None => self.writer.add(leaf, &self.items),
            Some(split) => self.writer.split(leaf, &split, &self.items),
        };
        self.is_border = entered && plan == Plan::SplitOnly;
        if !entered {
            return NOTHING;
        }
        Ran::Rows { count: self.items.rows(), full: self.is_border || self.items.is_full() }
    }

    /// Returns how many rows belong on the leaf and what to do with them. Returns `None` if PostgreSQL must enter the
    /// first.
    fn plan(&mut self, leaf: &Leaf, at: usize, item: usize) -> Option<(usize, Plan)> {
        let page = Page::read(leaf.bytes())?;
        let (number, last) = (leaf.number, page.last());
        if leaf.is_in_list || number < page.first() || number > last + 1 {
            return None;
        }
        // The item behind the rows, or the high key.
        let bound = if number <= last { Some(number) } else { (!page.is_rightmost()).then_some(HIGH_KEY) };
        // A key that is there already, or may be on the next page.
        if self.index.unique && bound.is_some_and(|bound| leaf.compare(bound, self.scratch) == 0) {
            return None;
        }
        let most = if self.index.unique { self.sorted.distinct(at, MOST) } else { MOST.min(self.sorted.len() - at) };
        let count = match bound {
            None => most,
            Some(bound) => plan::before(most, |next| {
                let row = self.sorted.row(at + next);
                form(&self.keys, row, &mut self.bytes, &mut self.other)
                    && leaf.comes_before(&self.other, bound, self.scratch)
            }),
        };
        if count == 0 {
            return None;
        }
        let shape = plan::Leaf {
            free: page.free(),
            at_end: number > last,
            before: page.used(page.first()..number),
            high_key: if page.is_rightmost() { 0 } else { page.used(HIGH_KEY..HIGH_KEY + 1) },
            is_border: self.is_border && self.wishes.comes_before,
            has_parent: !leaf.stack.is_null() && page.links().flags & ROOT == 0,
        };
        Some((count, plan::plan(&shape, self.wishes, item, count)))
    }

    /// Forms the tuples of so many rows as fit.
    fn pack(&mut self, at: usize, count: usize, room: usize) {
        let (keys, sorted) = (&self.keys, &self.sorted);
        let repeats = |next: usize| sorted.repeats(at + next);
        let lists: Option<&dyn Fn(usize) -> bool> = if self.lists { Some(&repeats) } else { None };
        let count = if room == 0 { 0 } else { count };
        let form = |next: usize, out: &mut Vec<u8>| keys.form(sorted.row(at + next), out);
        self.items.pack(count, room, lists, form, |next| keys.tid(sorted.row(at + next)));
    }
}

/// Forms the tuple of a row at a place of its own. Returns `false` if it is too long.
fn form(keys: &Keys<'_>, row: usize, bytes: &mut Vec<u8>, out: &mut Aligned) -> bool {
    bytes.clear();
    keys.form(row, bytes);
    out.set(bytes)
}
