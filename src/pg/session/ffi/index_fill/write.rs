//! Writes runs of tuples into a leaf, with generic WAL records: one for a run, and one for a split together with the
//! page's siblings.
//!
//! Nothing is changed before a record is complete, and `GenericXLogFinish` changes pages and WAL in one critical
//! section. What a crash forgets of a page (see [`Links::without_hints`]) is left out of the record and set again under
//! the same lock, because nbtree changes it without WAL. So a page of recovery is the same as that of the server.

use std::ffi::c_int;

use pgrx::pg_sys;

use super::calls::{
    _bt_finish_split, _bt_getbuf, _bt_relbuf, _bt_truncate, _bt_vacuum_cycleid, BufferGetBlockNumber,
    CheckForSerializableConflictIn, GenericXLogAbort, GenericXLogFinish, GenericXLogRegisterBuffer, GenericXLogStart,
    NEW, PredicateLockPageSplit, WRITE,
};
use super::leaf::{Aligned, HIGH_KEY, Leaf};
use super::scratch::Scratch;
use crate::tuple::leaf::build;
use crate::tuple::leaf::page::{Bytes, INCOMPLETE_SPLIT, Links, PAGE, Page, ROOT, SPLIT_END};
use crate::tuple::leaf::plan::Items;

/// `GENERIC_XLOG_FULL_IMAGE`.
const FULL_IMAGE: c_int = 1;

/// A page of a record.
struct Registered {
    buffer: pg_sys::Buffer,
    /// The copy that will become the page.
    image: *mut Bytes,
    /// Its links afterwards, with what the record leaves out.
    links: Links,
    full: bool,
}

/// Writes into one index.
pub struct Writer<'a> {
    index: pg_sys::Relation,
    scratch: &'a Scratch,
    left: Box<Bytes>,
    right: Box<Bytes>,
    last_left: Aligned,
    first_right: Aligned,
}

/// A split that is about to be written.
pub struct Split {
    /// The number of the first item that moves to the new page, or behind the last one.
    pub at: u16,
    /// Whether the new tuples go to the new page. Otherwise they stay before it.
    pub to_right: bool,
}

impl<'a> Writer<'a> {
    /// Makes a writer for an open index.
    pub fn new(index: pg_sys::Relation, scratch: &'a Scratch) -> Self {
        let page = || Box::new([0; PAGE]);
        let (left, right) = (page(), page());
        Self { index, scratch, left, right, last_left: Aligned::new(), first_right: Aligned::new() }
    }

    /// Inserts tuples into a leaf, before the item at which the leaf was found. Returns `false`, and has changed
    /// nothing, if they do not fit.
    pub fn add(&mut self, leaf: Leaf, items: &Items) -> bool {
        let links = Links::read(leaf.bytes());
        self.check_conflicts(&leaf);
        let state = self.start();
        let page = self.register(state, leaf.buffer, links, false);
        // SAFETY: the image is a copy of the page in the record's memory, which only this function has.
        let fits = build::insert(unsafe { &mut *page.image }, leaf.number, items.iter());
        if fits {
            self.finish(state, &[page]);
        } else {
            // SAFETY: the record was started and is not used again.
            self.scratch.guarded(|| unsafe { GenericXLogAbort(state) });
        }
        leaf.release(self.scratch);
        fits
    }

    /// Splits a leaf and adds tuples to one of its halves, with its right sibling in one record. The new page is then
    /// entered into the parent by nbtree itself, which also the next insertion would do. Returns `false`, and has
    /// changed nothing, if that is not possible.
    pub fn split(&mut self, leaf: Leaf, split: &Split, items: &Items) -> bool {
        self.check_conflicts(&leaf);
        let Some(links) = self.halves(&leaf, split, items) else {
            leaf.release(self.scratch);
            return false;
        };
        let block = self.block(leaf.buffer);
        let sibling = (links.next != 0).then(|| self.lock(links.next));
        let neighbour = sibling.map(|buffer| self.page(buffer));
        // A sibling that does not point back, or has dead items, is left to nbtree.
        let is_sound = |page: &&Bytes| Page::read(page).is_some_and(|page| page.links().previous == block);
        if neighbour.is_some_and(|page| !is_sound(&page)) {
            sibling.into_iter().for_each(|buffer| self.unlock(buffer));
            leaf.release(self.scratch);
            return false;
        }
        let neighbour = neighbour.map(Links::read);
        let state = self.start();
        // The last thing that can fail: nothing is changed if the disk is full. From here on no error can leave the new
        // page behind, so there is none to be zeroed.
        let new = self.lock(NEW);
        let new_block = self.block(new);
        // A vacuum that begins from here on finds both halves.
        // SAFETY: the index is open. The call takes a lock of its own, which raises no error.
        let cycle = self.scratch.guarded(|| unsafe { _bt_vacuum_cycleid(self.index) });
        let flags = links.flags & !(ROOT | SPLIT_END);
        let ends = neighbour.is_some_and(|neighbour| neighbour.cycle != cycle);
        let left = Links { next: new_block, flags: flags | INCOMPLETE_SPLIT, cycle, ..links };
        let right = Links { previous: block, flags: if ends { flags | SPLIT_END } else { flags }, cycle, ..links };
        let mut pages =
            vec![self.register(state, leaf.buffer, left, !split.to_right), self.register(state, new, right, true)];
        for (page, half) in pages.iter().zip([&self.left, &self.right]) {
            // SAFETY: the image is a copy of the page in the record's memory, which only this function has.
            unsafe { *page.image = **half };
        }
        pages.extend(
            sibling
                .zip(neighbour)
                .map(|(buffer, links)| self.register(state, buffer, Links { previous: new_block, ..links }, false)),
        );
        self.finish(state, &pages);
        let (index, buffer, stack) = (self.index, leaf.buffer, leaf.stack);
        // SAFETY: both halves are locked; the call raises no error.
        self.scratch.guarded(|| unsafe { PredicateLockPageSplit(index, block, new_block) });
        self.unlock(new);
        sibling.into_iter().for_each(|buffer| self.unlock(buffer));
        // SAFETY: the left half is locked and marked as incompletely split; the call releases it. The stack is that of
        // the search that has found it.
        self.scratch.guarded(|| unsafe { _bt_finish_split(index, buffer, stack) });
        true
    }

    /// Builds both halves but for their links, and returns the links of the page as it is. Returns `None` if they have
    /// no room.
    fn halves(&mut self, leaf: &Leaf, split: &Split, items: &Items) -> Option<Links> {
        let page = Page::read(leaf.bytes())?;
        let moved = (split.at..=page.last()).map(|number| page.item(number));
        let kept = (page.first()..split.at).map(|number| page.item(number));
        let (to_left, to_right) = if split.to_right { (None, Some(items)) } else { (Some(items), None) };
        let last_left = to_left.and_then(Items::last).or_else(|| kept.clone().next_back())?;
        let first_right = to_right.and_then(Items::first).or_else(|| moved.clone().next())?;
        if !self.last_left.set(last_left) || !self.first_right.set(first_right) {
            return None;
        }
        let high_key = self.high_key(leaf);
        let (left, right) = (&mut *self.left, &mut *self.right);
        build::clear(right);
        let old_high_key = (!page.is_rightmost()).then(|| page.item(HIGH_KEY));
        let right_items = old_high_key.into_iter().chain(to_right.into_iter().flat_map(Items::iter)).chain(moved);
        *left = *page.bytes();
        let fits = if split.to_right && page.is_rightmost() {
            // All items keep their places, so that the record is short.
            build::insert(left, HIGH_KEY, [high_key])
        } else {
            build::empty(left);
            let new = to_left.into_iter().flat_map(Items::iter);
            build::insert(left, HIGH_KEY, std::iter::once(high_key).chain(kept).chain(new))
        };
        (fits && build::insert(right, HIGH_KEY, right_items)).then(|| page.links())
    }

    /// Returns the key that separates the halves, which lives in the scratch memory.
    fn high_key(&self, leaf: &Leaf) -> &'a [u8] {
        let (index, key) = (self.index, leaf.key);
        let (last_left, first_right) = (self.last_left.tuple(), self.first_right.tuple());
        // SAFETY: both are complete tuples of the index, and the key is one of this index.
        let tuple = self.scratch.guarded(|| unsafe { _bt_truncate(index, last_left, first_right, key) });
        // SAFETY: the call has returned a complete tuple.
        let size = usize::from(unsafe { (*tuple).t_info } & 0x1fff).next_multiple_of(8);
        // SAFETY: the tuple has this size and is allocated in units of 8 bytes. It lives until the run ends.
        unsafe { std::slice::from_raw_parts(tuple.cast::<u8>(), size) }
    }

    /// Raises an error if another serializable transaction has read where this one writes.
    fn check_conflicts(&self, leaf: &Leaf) {
        let (index, buffer) = (self.index, leaf.buffer);
        // SAFETY: the leaf is locked. An error leaves the page as it is.
        self.scratch.guarded(|| unsafe {
            CheckForSerializableConflictIn(index, std::ptr::null_mut(), BufferGetBlockNumber(buffer));
        });
    }

    /// Starts a record.
    fn start(&self) -> *mut pg_sys::GenericXLogState {
        let index = self.index;
        // SAFETY: the index is open.
        self.scratch.guarded(|| unsafe { GenericXLogStart(index) })
    }

    /// Adds a page to a record. The pages of a record are added from the left to the right, as recovery locks them.
    fn register(
        &self,
        state: *mut pg_sys::GenericXLogState,
        buffer: pg_sys::Buffer,
        links: Links,
        full: bool,
    ) -> Registered {
        let flags = if full { FULL_IMAGE } else { 0 };
        // SAFETY: the buffer is locked exclusively, and a record has room for four pages.
        let image = self.scratch.guarded(|| unsafe { GenericXLogRegisterBuffer(state, buffer, flags) });
        Registered { buffer, image: image.cast::<Bytes>(), links, full }
    }

    /// Writes the record and the pages.
    fn finish(&self, state: *mut pg_sys::GenericXLogState, pages: &[Registered]) {
        for page in pages {
            let logged = page.links.without_hints();
            // SAFETY: the image is a copy of the page in the record's memory, which only this record has.
            logged.write(unsafe { &mut *page.image });
            if !page.full {
                // The record holds what differs. Flags and cycle must be in it in any case, because those of
                // recovery may be others.
                let differs =
                    Links { flags: !logged.flags, cycle: !logged.cycle, ..Links::read(self.page(page.buffer)) };
                self.set_links(page.buffer, differs);
            }
        }
        // SAFETY: all pages are locked and complete. It fails in a critical section only.
        self.scratch.guarded(|| unsafe { GenericXLogFinish(state) });
        for page in pages {
            self.set_links(page.buffer, page.links);
        }
    }

    /// Overwrites the links of a locked page.
    fn set_links(&self, buffer: pg_sys::Buffer, links: Links) {
        // SAFETY: the caller holds the exclusive lock, so no other process reads or writes the page.
        links.write(unsafe { &mut *pg_sys::BufferGetPage(buffer).cast::<Bytes>() });
    }

    /// Returns the bytes of a locked page.
    fn page(&self, buffer: pg_sys::Buffer) -> &Bytes {
        // SAFETY: the caller holds the exclusive lock, and the page has PostgreSQL's block size.
        unsafe { &*pg_sys::BufferGetPage(buffer).cast::<Bytes>() }
    }

    /// Returns the number of a pinned block.
    fn block(&self, buffer: pg_sys::Buffer) -> pg_sys::BlockNumber {
        // SAFETY: the buffer is pinned.
        self.scratch.guarded(|| unsafe { BufferGetBlockNumber(buffer) })
    }

    /// Locks a block of the index exclusively, or a new one.
    fn lock(&self, block: pg_sys::BlockNumber) -> pg_sys::Buffer {
        let index = self.index;
        // SAFETY: the block is the right sibling of a locked page, or new.
        self.scratch.guarded(|| unsafe { _bt_getbuf(index, block, WRITE) })
    }

    /// Gives up lock and pin of a block.
    fn unlock(&self, buffer: pg_sys::Buffer) {
        let index = self.index;
        // SAFETY: `lock` has locked and pinned it.
        self.scratch.guarded(|| unsafe { _bt_relbuf(index, buffer) });
    }
}
