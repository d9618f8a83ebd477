//! Page headers. They are parsed here because a header must be checked before memory is allocated by it, and because
//! the parquet crate's parser cannot report that it needs more bytes.

use super::damage::damaged;
use super::thrift::{Compact, Field, Stop, kind};
use crate::error::Result;

/// The header in front of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// The page's kind, with that kind's fields.
    pub page: PageKind,
    /// Bytes after decompression, with the levels.
    pub uncompressed: usize,
    /// Bytes in the file.
    pub compressed: usize,
    /// The checksum of the bytes in the file.
    pub crc: Option<u32>,
}

/// The kinds of pages. Encodings are the numbers of the Thrift definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageKind {
    /// Version 1: levels and values are compressed together.
    Data { values: u32, encoding: i32, levels: i32 },
    /// Version 2: uncompressed levels in front of the values.
    DataV2 { values: u32, nulls: u32, rows: u32, encoding: i32, def_len: usize, rep_len: usize, compressed: bool },
    /// The values that later pages refer to.
    Dictionary { values: u32, encoding: i32, sorted: bool },
    /// An index page, or an unknown kind. It is skipped.
    Other,
}

/// Parses the header at the front of `bytes`. Returns it with its length, or `None` if it does not end within `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(PageHeader, usize)>> {
    let mut input = Compact::new(bytes);
    let mut raw = Raw::default();
    match input.fields(|input, field| raw.field(input, field)) {
        Ok(()) => Ok(Some((raw.finish()?, input.position()))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Malformed(why)) => Err(damaged(format!("a page header is malformed: {why}"))),
    }
}

/// The fields as they are read. Each may be missing or wrong.
#[derive(Default)]
struct Raw {
    page_type: Option<i32>,
    uncompressed: Option<i32>,
    compressed: Option<i32>,
    crc: Option<i32>,
    data: Option<Part>,
    dictionary: Option<Part>,
    data_v2: Option<Part>,
}

/// The integer fields 1 to 6 of a nested header, and its one boolean.
#[derive(Default)]
struct Part {
    numbers: [Option<i32>; 7],
    flag: Option<bool>,
}

impl Raw {
    fn field(&mut self, input: &mut Compact<'_>, field: Field) -> std::result::Result<(), Stop> {
        match (field.id, field.kind) {
            (1, kind::I32) => self.page_type = Some(input.i32()?),
            (2, kind::I32) => self.uncompressed = Some(input.i32()?),
            (3, kind::I32) => self.compressed = Some(input.i32()?),
            (4, kind::I32) => self.crc = Some(input.i32()?),
            (5, kind::STRUCT) => self.data = Some(Part::read(input)?),
            (7, kind::STRUCT) => self.dictionary = Some(Part::read(input)?),
            (8, kind::STRUCT) => self.data_v2 = Some(Part::read(input)?),
            (_, other) => input.skip(other)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<PageHeader> {
        let missing = |what: &str| damaged(format!("a page header lacks its {what}"));
        let page = match self.page_type.ok_or_else(|| missing("type"))? {
            0 => {
                let part = self.data.ok_or_else(|| missing("data page part"))?;
                PageKind::Data {
                    values: part.count(1, "values")?,
                    encoding: part.number(2, "encoding")?,
                    levels: part.number(3, "level encoding")?,
                }
            }
            2 => {
                let part = self.dictionary.ok_or_else(|| missing("dictionary part"))?;
                PageKind::Dictionary {
                    values: part.count(1, "values")?,
                    encoding: part.number(2, "encoding")?,
                    sorted: part.flag.unwrap_or(false),
                }
            }
            3 => {
                let part = self.data_v2.ok_or_else(|| missing("data page part"))?;
                PageKind::DataV2 {
                    values: part.count(1, "values")?,
                    nulls: part.count(2, "nulls")?,
                    rows: part.count(3, "rows")?,
                    encoding: part.number(4, "encoding")?,
                    def_len: part.count(5, "definition levels")? as usize,
                    rep_len: part.count(6, "repetition levels")? as usize,
                    compressed: part.flag.unwrap_or(true),
                }
            }
            _ => PageKind::Other,
        };
        let size = |value: Option<i32>| {
            let value = value.ok_or_else(|| missing("size"))?;
            usize::try_from(value).map_err(|_| damaged(format!("a page header says that the page has {value} bytes")))
        };
        Ok(PageHeader {
            page,
            uncompressed: size(self.uncompressed)?,
            compressed: size(self.compressed)?,
            crc: self.crc.map(|crc| crc as u32),
        })
    }
}

impl Part {
    fn read(input: &mut Compact<'_>) -> std::result::Result<Part, Stop> {
        let mut part = Part::default();
        input.fields(|input, field| {
            match (field.id, field.kind) {
                (1..=6, kind::I32) => part.numbers[field.id as usize] = Some(input.i32()?),
                (_, kind::TRUE) => part.flag = Some(true),
                (_, kind::FALSE) => part.flag = Some(false),
                (_, other) => input.skip(other)?,
            }
            Ok(())
        })?;
        Ok(part)
    }

    fn number(&self, field: usize, what: &str) -> Result<i32> {
        self.numbers[field].ok_or_else(|| damaged(format!("a page header lacks its {what}")))
    }

    fn count(&self, field: usize, what: &str) -> Result<u32> {
        let value = self.number(field, what)?;
        u32::try_from(value).map_err(|_| damaged(format!("a page header claims {value} {what}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A v1 data page of 10 values in 100 bytes, 40 compressed, with a crc and statistics that hold a binary.
    const V1: [u8; 24] =
        [0x15, 0, 0x15, 200, 1, 0x15, 80, 0x15, 2, 0x1c, 0x15, 20, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c, 0x18, 1, 65, 0, 0];

    #[test]
    fn a_header_is_read_whole_or_not_at_all() {
        let mut bytes = V1.to_vec();
        bytes.push(0);
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]).unwrap(), None, "{len}");
        }
        bytes.extend([1, 2, 3]);
        let (header, len) = parse(&bytes).unwrap().unwrap();
        assert_eq!(len, V1.len() + 1);
        assert_eq!(header.page, PageKind::Data { values: 10, encoding: 0, levels: 3 });
        assert_eq!((header.uncompressed, header.compressed, header.crc), (100, 40, Some(1)));
    }

    #[test]
    fn negative_sizes_are_damage() {
        let mut bytes = V1.to_vec();
        bytes.push(0);
        bytes[6] = 79;
        assert!(parse(&bytes).is_err());
    }
}
