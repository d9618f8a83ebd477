//! A Parquet file in its parts: bytes, and the footer as a tree. Mutations know what is what.

use super::random::Random;
use super::thrift::{Value, rearrange};

/// Fields of the footer's structures, by their ids in parquet.thrift.
mod id {
    pub const ROW_GROUPS: i64 = 4;
    pub const COLUMNS: i64 = 1;
    pub const META: i64 = 3;
    pub const TOTAL_COMPRESSED: i64 = 7;
    pub const DATA_PAGE: i64 = 9;
    pub const DICTIONARY_PAGE: i64 = 11;
    /// Of a page's header.
    pub const PAGE_COMPRESSED: i64 = 3;
}

/// The bytes around the footer's tree: the magic in front, and length and magic behind.
const MAGIC: &[u8] = b"PAR1";

/// A file in its parts.
#[derive(Clone)]
pub struct File {
    /// Everything before the footer.
    body: Vec<u8>,
    footer: Value,
}

/// A page: its header and what follows it.
#[derive(Clone)]
struct Page {
    header: Value,
    data: Vec<u8>,
}

impl File {
    /// Takes a good file apart.
    pub fn parse(bytes: &[u8]) -> File {
        let end = bytes.len() - 8;
        let len = u32::from_le_bytes(*bytes[end..].first_chunk().unwrap()) as usize;
        let (footer, read) = Value::read(&bytes[end - len..end]);
        assert_eq!(read, len, "the footer is one structure");
        File { body: bytes[..end - len].to_vec(), footer }
    }

    /// Puts the file together.
    pub fn bytes(&self) -> Vec<u8> {
        let footer = self.footer.write();
        let mut bytes = self.body.clone();
        bytes.extend(&footer);
        bytes.extend((footer.len() as u32).to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// Changes something. Returns the file's bytes.
    pub fn mutated(&self, random: &mut Random) -> Vec<u8> {
        let mut file = self.clone();
        for _ in 0..=random.below(3) {
            match random.below(8) {
                0..=2 => {
                    let mut number = random.below(file.footer.count());
                    file.footer.mutate(&mut number, random);
                }
                3..=6 => file.mutate_chunk(random),
                _ => random.spoil(&mut file.body),
            }
        }
        let mut bytes = file.bytes();
        if random.one_in(10) {
            // Also length and magic at the end may be wrong, or the end missing.
            random.spoil(&mut bytes);
        }
        if random.one_in(20) {
            let at = bytes.len().saturating_sub(1 + random.below(12));
            bytes[at] = random.bits() as u8;
        }
        bytes
    }

    /// Changes the pages of a column chunk, which goes to the end of the file, where the footer finds it.
    fn mutate_chunk(&mut self, random: &mut Random) {
        let Some((group, column)) = self.pick(random) else { return };
        let Some(mut pages) = self.pages(group, column) else { return };
        if pages.is_empty() {
            return;
        }
        let at = random.below(pages.len());
        match random.below(6) {
            0 | 1 => {
                let mut number = random.below(pages[at].header.count());
                pages[at].header.mutate(&mut number, random);
            }
            2 | 3 => random.spoil(&mut pages[at].data),
            4 => {
                // The sizes in the header are right again, so that the data are read.
                random.spoil(&mut pages[at].data);
                let len = pages[at].data.len() as i64;
                if let Some(Value::Int(_, size)) = pages[at].header.field_mut(id::PAGE_COMPRESSED) {
                    *size = len;
                }
            }
            _ => rearrange(&mut pages, random),
        }
        self.append(group, column, &pages);
    }

    fn pick(&self, random: &mut Random) -> Option<(usize, usize)> {
        let groups = self.footer.field(id::ROW_GROUPS)?.items();
        let group = random.below(groups.len());
        let columns = groups.get(group)?.field(id::COLUMNS)?.items();
        (!columns.is_empty()).then(|| (group, random.below(columns.len())))
    }

    fn meta(&mut self, group: usize, column: usize) -> Option<&mut Value> {
        let group = self.footer.field_mut(id::ROW_GROUPS)?.item_mut(group)?;
        group.field_mut(id::COLUMNS)?.item_mut(column)?.field_mut(id::META)
    }

    /// Takes the pages of a column chunk apart. Returns `None` if earlier changes have hidden them.
    fn pages(&mut self, group: usize, column: usize) -> Option<Vec<Page>> {
        let meta = self.meta(group, column)?;
        let int = |id| meta.field(id).and_then(Value::int);
        let data = int(id::DATA_PAGE)?;
        let start = int(id::DICTIONARY_PAGE).filter(|first| *first > 0).map_or(data, |first| first.min(data));
        let end = start.checked_add(int(id::TOTAL_COMPRESSED)?)?;
        let bytes = self.body.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?.to_vec();
        // A header that was changed before may be no structure any more.
        std::panic::catch_unwind(|| split(&bytes)).ok()
    }

    fn append(&mut self, group: usize, column: usize, pages: &[Page]) {
        let start = self.body.len() as i64;
        let mut data_page = start;
        for (number, page) in pages.iter().enumerate() {
            self.body.extend(page.header.write());
            self.body.extend(&page.data);
            if number == 0 {
                data_page = self.body.len() as i64;
            }
        }
        let len = self.body.len() as i64 - start;
        let Some(meta) = self.meta(group, column) else { return };
        let has_dictionary = meta.field(id::DICTIONARY_PAGE).and_then(Value::int).is_some_and(|at| at > 0);
        let places = [
            (id::TOTAL_COMPRESSED, len),
            (id::DICTIONARY_PAGE, start),
            (id::DATA_PAGE, if has_dictionary { data_page } else { start }),
        ];
        for (id, value) in places {
            if let Some(Value::Int(_, field)) = meta.field_mut(id) {
                *field = value;
            }
        }
    }
}

fn split(mut bytes: &[u8]) -> Vec<Page> {
    let mut pages = Vec::new();
    while !bytes.is_empty() {
        let (header, read) = Value::read(bytes);
        let len = header.field(id::PAGE_COMPRESSED).and_then(Value::int).unwrap_or(0).max(0) as usize;
        let end = read.saturating_add(len).min(bytes.len());
        pages.push(Page { header, data: bytes[read..end].to_vec() });
        bytes = &bytes[end..];
    }
    pages
}
