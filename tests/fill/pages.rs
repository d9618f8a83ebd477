//! Pages: those of a stopped server's files, which are read, changed and written back, as a disk or a crash leaves
//! them; and those of a running server, as it holds them in memory.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use postgres::Client;

/// The length of a page.
pub const PAGE: usize = 8192;
/// The length of a page's header, behind which its line pointers begin.
const HEADER: usize = 24;
/// The length of a line pointer.
const POINTER: usize = 4;
/// Flags of a B-tree page.
const LEAF: u16 = 1;
const DELETED: u16 = 1 << 2;
const HALF_DEAD: u16 = 1 << 4;
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

    /// Returns all pages of an index as a running server holds them, by their block numbers. The session is a
    /// superuser's, in a database that has the extension pageinspect.
    #[track_caller]
    pub fn all_of(client: &mut Client, index: &str) -> Vec<Page> {
        let sql = format!(
            "SELECT get_raw_page('{index}', block::int) FROM generate_series(
                 0, pg_relation_size('{index}') / current_setting('block_size')::int - 1) block ORDER BY block"
        );
        client.query(&sql, &[]).unwrap().iter().map(|row| Page(row.get(0))).collect()
    }

    /// Returns the block to the left of a B-tree page; 0 if there is none.
    pub fn previous(&self) -> u64 {
        let special = self.special();
        u64::from(self.u16(special)) | u64::from(self.u16(special + 2)) << 16
    }

    /// Whether it is a leaf of a B-tree that is not deleted.
    pub fn is_leaf(&self) -> bool {
        // A new page has no place for flags.
        self.special() != 0 && self.u16(self.special() + 12) & (LEAF | DELETED | HALF_DEAD) == LEAF
    }

    /// Returns the number of the vacuum during which a B-tree page was split, or 0.
    pub fn cycle(&self) -> u16 {
        self.u16(self.special() + 14)
    }

    /// Returns the bytes between its line pointers and its items.
    pub fn free(&self) -> u16 {
        self.u16(14) - self.u16(12)
    }

    fn special(&self) -> usize {
        usize::from(self.u16(16))
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
        let special = self.special();
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
        let flags = self.special() + 12;
        self.set_u16(flags, self.u16(flags) | INCOMPLETE_SPLIT);
    }
}
