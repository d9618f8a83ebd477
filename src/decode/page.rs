//! The pages of one column chunk, fetched, checked and decompressed one at a time. All columns share one memory budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::Page;

use super::codec::Codec;
use super::damage::{damaged, guarded};
use super::header::{self, PageHeader, PageKind};
use super::schema::Column;
use super::{delta, levels};
use crate::error::{Error, Result};
use crate::model::source::ByteStream;

/// The bytes of decoded pages that may be in memory at once.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    used: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Budget { used: Arc::default(), limit }
    }

    /// Charges `bytes` until the charge is dropped. Only one thread charges, so a check before the addition is enough.
    fn charge(&self, bytes: u64) -> Result<Charge> {
        let needed = self.used.load(Ordering::Relaxed).saturating_add(bytes);
        if needed > self.limit {
            return Err(Error::TooLarge { what: A_PAGE.into(), needed, limit: self.limit, suffices: None });
        }
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Ok(Charge { used: self.used.clone(), bytes })
    }
}

/// A part of the budget. A drop returns it.
struct Charge {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Charge {
    /// Adds another charge, so that both are returned together.
    fn absorb(&mut self, mut other: Charge) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A page's bytes together with their charge. Arrays that point into the page keep both.
struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The subject of error messages. The reader of the chunk adds the column's name.
const A_PAGE: &str = "a page";

/// Reads a chunk's pages from its first byte on.
pub(super) struct Pages {
    bytes: Box<dyn ByteStream>,
    codec: Codec,
    physical: Physical,
    width: usize,
    optional: bool,
    rows_left: u64,
    /// The charge for the decoded dictionary beside its page, held as long as the chunk is read.
    dictionary: Option<Charge>,
    budget: Budget,
}

/// The bytes that are read for a header at first.
const HEADER_PEEK: usize = 512;
/// The longest header. A header may hold two whole values as statistics.
const MAX_HEADER: usize = 1 << 20;
/// Index pages are skipped in pieces of this size.
const SKIP: usize = 64 * 1024;

impl Pages {
    pub fn new(bytes: Box<dyn ByteStream>, codec: Codec, column: &Column, rows: u64, budget: Budget) -> Self {
        Pages {
            bytes,
            codec,
            physical: column.physical,
            width: column.width,
            optional: column.optional,
            rows_left: rows,
            dictionary: None,
            budget,
        }
    }

    /// Returns the next page and the rows in it, or `None` for a page without values. Must be called only while rows
    /// remain.
    pub fn next(&mut self) -> Result<Option<(Page, u64)>> {
        let header = self.header()?;
        if header.compressed as u64 > self.bytes.remaining() {
            let left = self.bytes.remaining();
            return Err(wrong(&format!("claims {} bytes, but only {left} remain", header.compressed)));
        }
        let values = match &header.page {
            PageKind::Data { values, .. } | PageKind::DataV2 { values, .. } => u64::from(*values),
            PageKind::Dictionary { .. } => return self.dictionary(header),
            PageKind::Other => {
                let mut left = header.compressed;
                while left > 0 {
                    left -= self.bytes.take(left.min(SKIP))?.len();
                }
                return Ok(None);
            }
        };
        if values > self.rows_left {
            return Err(wrong(&format!("holds {values} values, but only {} rows remain", self.rows_left)));
        }
        let page = self.data(header)?;
        self.rows_left -= values;
        // The decoder would take a page without values for the end of the column.
        Ok((values > 0).then_some((page, values)))
    }

    fn header(&mut self) -> Result<PageHeader> {
        let mut len = HEADER_PEEK;
        loop {
            let bytes = self.bytes.peek(len)?;
            if let Some((header, used)) = header::parse(&bytes)? {
                self.bytes.take(used)?;
                return Ok(header);
            }
            if (bytes.len() as u64) < self.bytes.remaining() && len < MAX_HEADER {
                len *= 2;
            } else {
                return Err(wrong("has a header that does not end, or the column has too few rows"));
            }
        }
    }

    fn dictionary(&mut self, header: PageHeader) -> Result<Option<(Page, u64)>> {
        let PageKind::Dictionary { values, encoding, sorted } = header.page else { return Ok(None) };
        if self.dictionary.is_some() {
            return Err(wrong("is a second dictionary"));
        }
        if !matches!(encoding, 0 | 2) {
            return Err(Error::Unsupported { what: format!("dictionaries in encoding {encoding}") });
        }
        // A string takes at least 4 bytes (its length) in the page, and a view of 16 bytes in memory.
        let (in_page, in_memory) = match self.physical {
            Physical::BYTE_ARRAY => (4, 16),
            Physical::BOOLEAN => return Err(wrong("is a dictionary of booleans")),
            _ => (self.width as u64, self.width as u64),
        };
        if u64::from(values) * in_page > header.uncompressed as u64 {
            return Err(wrong(&format!("claims {values} values in {} bytes", header.uncompressed)));
        }
        self.dictionary = Some(self.budget.charge(u64::from(values) * in_memory)?);
        let buf = self.load(&header, 0, true)?.finish();
        let page = Page::DictionaryPage { buf, num_values: values, encoding: Encoding::PLAIN, is_sorted: sorted };
        Ok(Some((page, 0)))
    }

    fn data(&mut self, header: PageHeader) -> Result<Page> {
        match header.page {
            PageKind::DataV2 { values, nulls, rows, encoding, def_len, rep_len, compressed } => {
                let encoding = self.encoding(encoding)?;
                let levels = def_len + rep_len;
                if levels > header.uncompressed.min(header.compressed) || nulls > values || rows != values {
                    return Err(wrong(&format!(
                        "has {values} values, {rows} rows, {nulls} nulls and {levels} bytes of levels in {} bytes",
                        header.uncompressed
                    )));
                }
                let mut loaded = self.load(&header, levels, compressed)?;
                self.check_values(&mut loaded, levels, encoding, values)?;
                self.trim(&mut loaded, levels, encoding, |_| Some(u64::from(values - nulls)));
                Ok(Page::DataPageV2 {
                    buf: loaded.finish(),
                    num_values: values,
                    encoding,
                    num_nulls: nulls,
                    num_rows: rows,
                    def_levels_byte_len: def_len as u32,
                    rep_levels_byte_len: rep_len as u32,
                    is_compressed: false,
                    statistics: None,
                })
            }
            PageKind::Data { values, encoding, levels } => {
                let encoding = self.encoding(encoding)?;
                let mut loaded = self.load(&header, 0, true)?;
                let (level_encoding, start) = self.v1_levels(&loaded.bytes, levels, values)?;
                self.check_values(&mut loaded, start, encoding, values)?;
                // Run-length levels follow their length of four bytes.
                self.trim(&mut loaded, start, encoding, |page| match (self.optional, level_encoding) {
                    (false, _) => Some(u64::from(values)),
                    (true, Encoding::RLE) => levels::present(page.get(4..start)?, values),
                    (true, _) => None,
                });
                Ok(Page::DataPage {
                    buf: loaded.finish(),
                    num_values: values,
                    encoding,
                    def_level_encoding: level_encoding,
                    rep_level_encoding: level_encoding,
                    statistics: None,
                })
            }
            PageKind::Dictionary { .. } | PageKind::Other => Err(wrong("is no data page")),
        }
    }

    /// Returns the encoding of a v1 page's levels, and where its values begin.
    fn v1_levels(&self, page: &[u8], encoding: i32, values: u32) -> Result<(Encoding, usize)> {
        if !self.optional {
            return Ok((Encoding::RLE, 0));
        }
        let (encoding, end) = match encoding {
            3 => {
                let len = page.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize);
                (Encoding::RLE, len.map_or(usize::MAX, |len| len.saturating_add(4)))
            }
            #[allow(deprecated)]
            4 => (Encoding::BIT_PACKED, (values as usize).div_ceil(8)),
            _ => return Err(Error::Unsupported { what: format!("levels in encoding {encoding}") }),
        };
        if end > page.len() { Err(wrong("ends within its levels")) } else { Ok((encoding, end)) }
    }

    /// Returns the encoding, if the decoder supports it for this type of column.
    fn encoding(&self, number: i32) -> Result<Encoding> {
        let is_bytes = matches!(self.physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
        let is_integer = matches!(self.physical, Physical::INT32 | Physical::INT64);
        let is_boolean = self.physical == Physical::BOOLEAN;
        let splits = !matches!(self.physical, Physical::BYTE_ARRAY | Physical::BOOLEAN | Physical::INT96);
        Ok(match number {
            0 => Encoding::PLAIN,
            2 | 8 if !is_boolean => {
                if self.dictionary.is_none() {
                    return Err(wrong("refers to a dictionary, but the column has none"));
                }
                Encoding::RLE_DICTIONARY
            }
            3 if is_boolean => Encoding::RLE,
            5 if is_integer => Encoding::DELTA_BINARY_PACKED,
            6 if self.physical == Physical::BYTE_ARRAY => Encoding::DELTA_LENGTH_BYTE_ARRAY,
            7 if is_bytes => Encoding::DELTA_BYTE_ARRAY,
            9 if splits => Encoding::BYTE_STREAM_SPLIT,
            _ => return Err(Error::Unsupported { what: format!("encoding {number} for {}", self.physical) }),
        })
    }

    /// Checks the counts in delta-encoded values, and charges the memory that their decoding takes beside the page
    /// itself.
    fn check_values(&self, loaded: &mut Loaded, start: usize, encoding: Encoding, values: u32) -> Result<()> {
        let data = loaded.bytes.get(start..).unwrap_or_default();
        let extra = match encoding {
            Encoding::DELTA_BINARY_PACKED if !data.is_empty() => {
                delta::check_header(data, values)?;
                0
            }
            Encoding::DELTA_LENGTH_BYTE_ARRAY if !data.is_empty() => delta::check_header(data, values)? * 4,
            Encoding::DELTA_BYTE_ARRAY if !data.is_empty() => {
                delta::expanded_size(data, values)?.saturating_add(u64::from(values) * 8)
            }
            _ => 0,
        };
        if extra > 0 {
            loaded.charge.absorb(self.budget.charge(extra)?);
        }
        Ok(())
    }

    /// Cuts off the bytes after the values of a plain INT96 page. fastparquet writes a few bytes more, and the decoder
    /// accepts no extra bytes for values of fixed length.
    fn trim(&self, loaded: &mut Loaded, start: usize, encoding: Encoding, present: impl Fn(&[u8]) -> Option<u64>) {
        if self.physical != Physical::INT96 || encoding != Encoding::PLAIN {
            return;
        }
        if let Some(values) = present(&loaded.bytes) {
            loaded.bytes.truncate(start.saturating_add(values as usize * self.width));
        }
    }

    /// Fetches the page's bytes. The first `levels` bytes are copied, the rest is decompressed.
    fn load(&mut self, header: &PageHeader, levels: usize, compressed: bool) -> Result<Loaded> {
        let charge = self.budget.charge(header.uncompressed as u64)?;
        let _while_decompressing = self.budget.charge(header.compressed as u64)?;
        let raw = self.bytes.take(header.compressed)?;
        if let Some(expected) = header.crc
            && crc32fast::hash(&raw) != expected
        {
            return Err(wrong("does not match its checksum"));
        }
        let codec = if compressed { self.codec } else { Codec::None };
        let mut bytes = vec![0; header.uncompressed];
        let (front, rest) = bytes.split_at_mut(levels);
        front.copy_from_slice(&raw[..levels]);
        // For a page without values, writers store no bytes at all or an empty stream.
        if !rest.is_empty() {
            let wanted = rest.len();
            guarded(A_PAGE, || codec.decompress(&raw[levels..], rest))?
                .map_err(|why| wrong(&format!("does not decompress to {wanted} bytes: {why}")))?;
        }
        Ok(Loaded { bytes, charge })
    }
}

fn wrong(what: &str) -> Error {
    damaged(format!("{A_PAGE} {what}"))
}

struct Loaded {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Loaded {
    fn finish(self) -> Bytes {
        Bytes::from_owner(Charged { bytes: self.bytes, _charge: self.charge })
    }
}
