//! Pages of a stopped server's files: read, changed and written back, as a disk or a crash leaves them.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The length of a page.
pub const PAGE: usize = 8192;
/// The length of a page's header, behind which its line pointers begin.
const HEADER: usize = 24;
/// The length of a line pointer.
const POINTER: usize = 4;
/// Flags of a B-tree page.
const LEAF: u16 = 1;
const INCOMPLETE_SPLIT: u16 = 1 << 7;

/// One page.
#[derive(Clone, PartialEq, Eq)]
pub struct Page(pub Vec<u8>);

impl Page {
    /// Reads a page of a file.
    pub fn read(path: &Path, number: u64) -> Page {
        let mut file = OpenOptions::new().read(true).open(path).unwrap();
        let mut page = Page(vec![0; PAGE]);
        file.seek(SeekFrom::Start(number * PAGE as u64)).unwrap();
        file.read_exact(&mut page.0).unwrap();
        page
    }

    /// Writes the page into a file.
    pub fn write(&self, path: &Path, number: u64) {
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(number * PAGE as u64)).unwrap();
        file.write_all(&self.0).unwrap();
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Returns where a line pointer is; they are counted from 1.
    fn pointer(number: usize) -> usize {
        HEADER + POINTER * (number - 1)
    }

    /// Counts its line pointers.
    pub fn items(&self) -> usize {
        (usize::from(self.u16(12)) - HEADER) / POINTER
    }

    /// Returns where an item begins and ends.
    pub fn item(&self, number: usize) -> std::ops::Range<usize> {
        let begin = usize::from(self.u16(Self::pointer(number)) & 0x7fff);
        begin..begin + usize::from(self.u16(Self::pointer(number) + 2) >> 1)
    }

    /// Whether it is a leaf of a B-tree, with a right sibling and a few items.
    pub fn is_inner_leaf(&self) -> bool {
        let special = usize::from(self.u16(16));
        let next = self.u16(special + 4);
        self.u16(special + 12) == LEAF && next != 0 && self.items() > 5
    }

    /// Exchanges two line pointers.
    pub fn swap(&mut self, one: usize, other: usize) {
        for byte in 0..POINTER {
            self.0.swap(Self::pointer(one) + byte, Self::pointer(other) + byte);
        }
    }

    /// Lets a line pointer point to what another one points to.
    pub fn repeat(&mut self, from: usize, to: usize) {
        let from = Self::pointer(from);
        self.0.copy_within(from..from + POINTER, Self::pointer(to));
    }

    /// Takes a line pointer away. The place of its item is lost.
    pub fn remove(&mut self, number: usize) {
        let lower = self.u16(12);
        self.0.copy_within(Self::pointer(number) + POINTER..usize::from(lower), Self::pointer(number));
        self.set_u16(12, lower - POINTER as u16);
    }

    /// Marks a B-tree page as one whose right sibling is not in the parent yet.
    pub fn set_incomplete_split(&mut self) {
        let flags = usize::from(self.u16(16)) + 12;
        self.set_u16(flags, self.u16(flags) | INCOMPLETE_SPLIT);
    }
}
