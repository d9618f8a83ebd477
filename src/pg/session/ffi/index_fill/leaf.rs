//! The leaf on which a row belongs, found by nbtree's own search and locked.

use std::ffi::c_void;

use pgrx::pg_sys;

use super::calls::{
    _bt_binsrch_insert, _bt_compare, _bt_mkscankey, _bt_relbuf, _bt_search, InsertState, ScanKey, WRITE,
};
use super::index::Index;
use super::scratch::Scratch;
use crate::tuple::leaf::page::Bytes;

/// Words of an index tuple, aligned as PostgreSQL wants it. Longer ones are not formed here.
const WORDS: usize = 256;
/// `P_HIKEY`.
pub const HIGH_KEY: u16 = 1;

/// A copy of an index tuple at a place of its own.
pub struct Aligned(Box<[u64; WORDS]>);

impl Aligned {
    /// Makes room for a tuple.
    pub fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Copies a tuple, whose length is a multiple of 8. Returns `false` if it is too long.
    pub fn set(&mut self, tuple: &[u8]) -> bool {
        let words = tuple.as_chunks::<8>().0;
        let Some(room) = self.0.get_mut(..words.len()) else { return false };
        room.iter_mut().zip(words).for_each(|(to, from)| *to = u64::from_ne_bytes(*from));
        true
    }

    /// Returns the tuple. Its first bytes are the place of the row.
    pub fn tuple(&self) -> pg_sys::IndexTuple {
        self.0.as_ptr() as pg_sys::IndexTuple
    }
}

/// A leaf, pinned and locked exclusively until `release`, or until an error ends the transaction.
pub struct Leaf {
    index: pg_sys::Relation,
    unique: bool,
    /// Its buffer.
    pub buffer: pg_sys::Buffer,
    /// The way to it from the root, or null.
    pub stack: *mut c_void,
    /// The key of the row, in the scratch memory.
    pub key: *mut ScanKey,
    /// The number of the first item that does not come before the row.
    pub number: u16,
    /// Whether the row's place is within the list of an item.
    pub is_in_list: bool,
}

impl Leaf {
    /// Finds the leaf of a tuple. Splits on the way that a crash has left incomplete are completed, as every
    /// insertion does it. In a unique index the place of the row does not count: the first leaf is found on which an
    /// equal key could be.
    pub fn find(index: &Index, tuple: &Aligned, scratch: &Scratch) -> Option<Self> {
        let (relation, unique, tuple) = (index.relation, index.unique, tuple.tuple());
        let (buffer, stack, key, number, posting) = scratch.guarded(|| {
            let key = scan_key(relation, unique, tuple);
            let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
            // SAFETY: the index is open and locked by an INSERT's lock; the key is one of this index.
            let stack = unsafe { _bt_search(relation, key, &raw mut buffer, WRITE, std::ptr::null_mut()) };
            if buffer == pg_sys::InvalidBuffer as pg_sys::Buffer {
                return (buffer, stack, key, 0, 0);
            }
            let mut state = InsertState {
                tuple,
                // SAFETY: the tuple is complete.
                size: unsafe { (*tuple).t_info & 0x1fff }.into(),
                key,
                buffer,
                bounds_valid: false,
                low: 0,
                strict_high: 0,
                posting: 0,
            };
            // SAFETY: the buffer is a leaf of this index, which _bt_search has locked.
            let number = unsafe { _bt_binsrch_insert(relation, &raw mut state) };
            (buffer, stack, key, number, state.posting)
        });
        let found = buffer != pg_sys::InvalidBuffer as pg_sys::Buffer;
        found.then_some(Self { index: relation, unique, buffer, stack, key, number, is_in_list: posting != 0 })
    }

    /// Returns the bytes of the page.
    pub fn bytes(&self) -> &Bytes {
        // SAFETY: the buffer is pinned, and its page has PostgreSQL's block size. No other process changes it, not
        // even a hint, as long as the exclusive lock is held.
        unsafe { &*pg_sys::BufferGetPage(self.buffer).cast::<Bytes>() }
    }

    /// Compares the row that was searched for with an item.
    pub fn compare(&self, number: u16, scratch: &Scratch) -> i32 {
        let (index, buffer, key) = (self.index, self.buffer, self.key);
        // SAFETY: the page is locked and has this item; the key is in the scratch memory.
        scratch.guarded(|| unsafe { _bt_compare(index, key, pg_sys::BufferGetPage(buffer), number) })
    }

    /// Returns whether a tuple comes before an item.
    pub fn comes_before(&self, tuple: &Aligned, number: u16, scratch: &Scratch) -> bool {
        let (index, unique, buffer, tuple) = (self.index, self.unique, self.buffer, tuple.tuple());
        scratch.guarded(|| {
            let key = scan_key(index, unique, tuple);
            // SAFETY: the page is locked and has this item; the key is one of this index.
            unsafe { _bt_compare(index, key, pg_sys::BufferGetPage(buffer), number) < 0 }
        })
    }

    /// Gives up the lock and the pin.
    pub fn release(self, scratch: &Scratch) {
        let (index, buffer) = (self.index, self.buffer);
        // SAFETY: `find` has locked and pinned the buffer, and `self` is consumed.
        scratch.guarded(|| unsafe { _bt_relbuf(index, buffer) });
    }
}

/// Makes the key to search for a tuple. Only within `guarded`.
fn scan_key(index: pg_sys::Relation, unique: bool, tuple: pg_sys::IndexTuple) -> *mut ScanKey {
    // SAFETY: the tuple has all key columns of the open index.
    let key = unsafe { _bt_mkscankey(index, tuple) };
    let tid = if unique {
        std::ptr::null_mut()
    } else {
        // SAFETY: the tuple is complete and outlives the key: both belong to one run.
        unsafe { &raw mut (*tuple).t_tid }
    };
    // SAFETY: the call above has returned a valid key.
    unsafe { (*key).tid = tid };
    key
}
