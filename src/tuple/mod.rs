//! PostgreSQL tuples that are ready to be inserted.
//!
//! The encoder writes `MinimalTuple`s (PostgreSQL 15, 64-bit, little-endian), so that the backend's own thread neither
//! converts values nor forms tuples. The layout is that of PostgreSQL's `access/htup_details.h`. A `#[pg_test]`
//! compares it with the result of `heap_form_minimal_tuple` for the same values, and `pg::ffi` does not compile for
//! other layouts.
//!
//! Columns, in order ([`COLUMNS`]): the ten of `market_data.btc_ticks` that a file decides, then the row's number in
//! its object.

pub mod batch;
pub mod leaf;
pub mod numeric;
pub mod pool;

use numeric::Numeric;

/// Name and SQL type of each column of an encoded tuple.
pub const COLUMNS: [(&str, &str); 11] = [
    ("bucket_5m", "timestamptz"),
    ("event_time", "timestamptz"),
    ("trade_time", "timestamptz"),
    ("symbol", "text"),
    ("trade_id", "bigint"),
    ("price", "numeric(18,8)"),
    ("quantity", "numeric(24,12)"),
    ("buyer_order_id", "text"),
    ("seller_order_id", "text"),
    ("is_market_maker", "boolean"),
    ("row_number", "bigint"),
];

/// `SizeofHeapTupleHeader` without null bitmap and alignment.
const HEADER: usize = 23;
/// The bytes of a heap tuple's header that a `MinimalTuple` omits.
const MINIMAL_TUPLE_OFFSET: usize = 8;
const HAS_NULL: u16 = 0x0001;
const HAS_VARWIDTH: u16 = 0x0002;
/// The longest text, with its header, that a 1-byte varlena header can describe.
const SHORT_VARLENA_MAX: usize = 127;

/// The most bytes that come before a tuple's data.
const DATA_MAX: usize = (HEADER + COLUMNS.len().div_ceil(8)).next_multiple_of(8) - MINIMAL_TUPLE_OFFSET;

/// The value of one column.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// SQL null.
    Null,
    /// An 8-byte integer or timestamp.
    Int8(i64),
    /// A boolean.
    Bool(bool),
    /// A text, without its length header.
    Varlena(&'a [u8]),
    /// An encoded numeric.
    Numeric(Numeric),
}

impl Value<'_> {
    /// Returns the most bytes that the value takes, with its header, its alignment and the padding to the end of a
    /// word.
    #[inline]
    fn most(&self) -> usize {
        16 + match self {
            Value::Varlena(bytes) => bytes.len(),
            Value::Numeric(_) => numeric::MAX_LEN,
            Value::Null | Value::Int8(_) | Value::Bool(_) => 0,
        }
    }
}

/// Appends tuples to 8-byte aligned memory.
#[derive(Debug, Default)]
pub struct TupleWriter {
    words: Vec<u64>,
    starts: Vec<u32>,
    /// The tuple that is being formed. The vector grows with the longest tuple and never shrinks.
    scratch: Vec<u8>,
}

impl TupleWriter {
    /// Makes a writer with room for `rows` tuples of about `row_bytes` bytes. It reuses the memory of old tuples.
    pub fn with_capacity(memory: Tuples, rows: usize, row_bytes: usize) -> Self {
        let Tuples { mut words, mut starts } = memory;
        words.clear();
        words.reserve(rows * row_bytes / 8);
        starts.clear();
        starts.reserve(rows);
        TupleWriter { words, starts, scratch: Vec::new() }
    }

    /// Appends one tuple.
    #[inline]
    pub fn push(&mut self, values: &[Value<'_>; COLUMNS.len()]) {
        let needed = DATA_MAX + values.iter().map(Value::most).sum::<usize>();
        if self.scratch.len() < needed {
            self.scratch.resize(needed, 0);
        }
        let out = &mut self.scratch[..needed];
        let has_null = values.iter().any(|value| matches!(value, Value::Null));
        let bitmap = if has_null { COLUMNS.len().div_ceil(8) } else { 0 };
        let hoff = (HEADER + bitmap).next_multiple_of(8);
        let mut end = hoff - MINIMAL_TUPLE_OFFSET;
        out[..DATA_MAX].fill(0);

        for (index, value) in values.iter().enumerate() {
            end = match value {
                Value::Null => continue,
                Value::Int8(number) => {
                    let at = pad(out, end, 8);
                    put(out, at, &number.to_le_bytes())
                }
                Value::Bool(flag) => put(out, end, &[u8::from(*flag)]),
                Value::Varlena(bytes) => put_varlena(out, end, bytes),
                Value::Numeric(number) => put_varlena(out, end, number.as_bytes()),
            };
            if has_null {
                out[HEADER - MINIMAL_TUPLE_OFFSET + index / 8] |= 1 << (index % 8);
            }
        }
        put(out, 0, &(end as u32).to_le_bytes());
        put(out, 10, &(COLUMNS.len() as u16).to_le_bytes());
        put(out, 12, &(HAS_VARWIDTH | if has_null { HAS_NULL } else { 0 }).to_le_bytes());
        put(out, 14, &[hoff as u8]);

        end = pad(out, end, 8);
        self.starts.push(self.words.len() as u32);
        self.words.extend(out[..end].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
    }

    /// Returns the tuples written so far.
    pub fn finish(self) -> Tuples {
        Tuples { words: self.words, starts: self.starts }
    }
}

/// Copies the bytes to `at`, and returns where they end.
#[inline]
fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    out[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

/// Fills with zeros up to the next multiple of `alignment`, which is at most 8, and returns that position.
#[inline]
fn pad(out: &mut [u8], end: usize, alignment: usize) -> usize {
    put(out, end, &[0; 8]);
    end.next_multiple_of(alignment)
}

/// Copies a varlena value and returns where it ends. Its length header has one byte if the length fits, otherwise four
/// aligned bytes, as in `heap_fill_tuple`.
#[inline]
fn put_varlena(out: &mut [u8], end: usize, bytes: &[u8]) -> usize {
    let end = if bytes.len() < SHORT_VARLENA_MAX {
        put(out, end, &[((bytes.len() + 1) << 1 | 1) as u8])
    } else {
        let end = pad(out, end, 4);
        put(out, end, &(((bytes.len() + 4) as u32) << 2).to_le_bytes())
    };
    put(out, end, bytes)
}

/// Tuples end to end, each at an 8-byte boundary.
#[derive(Debug, Default)]
pub struct Tuples {
    words: Vec<u64>,
    starts: Vec<u32>,
}

impl Tuples {
    /// Returns the number of tuples.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns whether there are no tuples.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Returns the bytes in use.
    pub fn size(&self) -> usize {
        self.words.len() * 8 + self.starts.len() * 4
    }

    /// Overwrites the last column of every tuple, an 8-byte integer that is never null.
    pub fn set_last(&mut self, value: impl Fn(usize) -> i64) {
        for index in 0..self.len() {
            let end = self.starts.get(index + 1).map_or(self.words.len(), |&next| next as usize);
            self.words[end - 1] = value(index) as u64;
        }
    }

    /// Returns the words of one tuple. Its first four bytes hold its length in bytes.
    pub fn words(&self, index: usize) -> &[u64] {
        let start = self.starts[index] as usize;
        let end = self.starts.get(index + 1).map_or(self.words.len(), |&next| next as usize);
        &self.words[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(tuples: &Tuples, index: usize) -> Vec<u8> {
        tuples.words(index).iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn one(values: [Value<'_>; 11]) -> Vec<u8> {
        let mut writer = TupleWriter::default();
        writer.push(&values);
        bytes(&writer.finish(), 0)
    }

    #[test]
    fn a_tuple_without_nulls_has_no_bitmap_and_its_data_at_16() {
        let tuple = one([Value::Int8(7); 11]);
        assert_eq!(tuple[14], 24, "t_hoff");
        assert_eq!(tuple[12] & 1, 0, "HEAP_HASNULL");
        assert_eq!(u32::from_le_bytes(tuple[0..4].try_into().unwrap()), 16 + 11 * 8);
        assert_eq!(tuple[16..24], 7i64.to_le_bytes());
    }

    #[test]
    fn the_last_column_of_every_tuple_can_be_set() {
        let mut writer = TupleWriter::default();
        let mut values = [Value::Int8(7); 11];
        values[9] = Value::Bool(true);
        writer.push(&values);
        values[3] = Value::Null;
        writer.push(&values);
        let mut tuples = writer.finish();
        tuples.set_last(|index| 100 + index as i64);
        for index in 0..2 {
            assert_eq!(tuples.words(index).last(), Some(&(100 + index as u64)));
            assert_eq!(tuples.words(index)[tuples.words(index).len() - 2], 1, "the column before");
        }
    }

    #[test]
    fn a_null_is_a_cleared_bit_and_no_bytes() {
        let mut values = [Value::Int8(7); 11];
        values[2] = Value::Null;
        values[9] = Value::Null;
        let tuple = one(values);
        assert_eq!(tuple[14], 32, "t_hoff");
        assert_eq!(tuple[15..17], [0b1111_1011, 0b0000_0101]);
        assert_eq!(u32::from_le_bytes(tuple[0..4].try_into().unwrap()), 24 + 9 * 8);
    }

    #[test]
    fn integers_are_aligned_after_text_and_short_text_is_not() {
        let long = [b'x'; 200];
        let mut values = [Value::Bool(true); 11];
        values[1] = Value::Varlena(b"AB");
        values[2] = Value::Int8(-1);
        values[4] = Value::Varlena(&long);
        let tuple = one(values);
        assert_eq!(tuple[16..20], [1, 7, b'A', b'B']);
        assert_eq!(tuple[24..32], [0xff; 8]);
        assert_eq!(tuple[32], 1);
        assert_eq!(u32::from_le_bytes(tuple[36..40].try_into().unwrap()), 204 << 2);
    }

    #[test]
    fn any_mixture_of_lengths_fits_and_ends_at_a_word() {
        let text = [b'x'; 300];
        let mut writer = TupleWriter::default();
        for len in 0..=300 {
            let mut values = [Value::Varlena(&text[..len]); 11];
            writer.push(&values);
            for at in [1, 3, 4, 9] {
                values[at] = Value::Bool(true);
            }
            for at in [2, 5, 7, 10] {
                values[at] = Value::Int8(-1);
            }
            writer.push(&values);
        }
        let tuples = writer.finish();
        for (index, end) in (0..tuples.len()).map(|index| (index, bytes(&tuples, index))) {
            let len = u32::from_le_bytes(end[..4].try_into().unwrap()) as usize;
            assert_eq!(end.len(), len.next_multiple_of(8), "tuple {index}");
            assert!(end[len..].iter().all(|byte| *byte == 0), "tuple {index}");
            let last = if index % 2 == 0 { b'x' } else { 0xff };
            assert!(index == 0 || end[len - 1] == last, "tuple {index}");
        }
    }
}
