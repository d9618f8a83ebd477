//! The part of Thrift's compact protocol that Parquet's headers need. It reads from a slice, limits the depth and
//! allocates nothing.

/// Why a value could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The slice ends before the value does; more bytes may help.
    Incomplete,
    /// The bytes are wrong; more bytes do not help.
    Malformed(&'static str),
}

type Read<T> = Result<T, Stop>;

/// The types of fields and of list elements.
pub(super) mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
    pub const UUID: u8 = 13;
}

/// No Parquet header nests values deeper than this.
const MAX_DEPTH: u32 = 32;

/// The header of a field; its value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Its number in the Thrift definition.
    pub id: i16,
    /// One of [`kind`].
    pub kind: u8,
}

/// Reads values one after another.
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Compact<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Compact { bytes, at: 0 }
    }

    /// Returns how many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Calls `visit` for every field of the struct that begins here. `visit` must consume the field's value.
    pub fn fields(&mut self, mut visit: impl FnMut(&mut Self, Field) -> Read<()>) -> Read<()> {
        let mut last = 0i16;
        while let Some(field) = self.field(last)? {
            last = field.id;
            visit(self, field)?;
        }
        Ok(())
    }

    /// Reads the element type and length of the list that begins here.
    pub fn list(&mut self) -> Read<(u8, u64)> {
        let head = self.byte()?;
        let size = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        Ok((head & 15, size))
    }

    /// Reads a 32-bit integer. A wider one is malformed.
    pub fn i32(&mut self) -> Read<i32> {
        i32::try_from(self.zigzag()?).map_err(|_| Stop::Malformed("an integer is wider than 32 bits"))
    }

    /// Skips one value of type `kind`.
    pub fn skip(&mut self, kind: u8) -> Read<()> {
        self.skip_at(kind, 0)
    }

    fn field(&mut self, last: i16) -> Read<Option<Field>> {
        let head = self.byte()?;
        let kind = head & 15;
        if kind == 0 {
            return Ok(None);
        }
        let id = match head >> 4 {
            0 => i16::try_from(self.zigzag()?).ok(),
            delta => last.checked_add(i16::from(delta)),
        };
        let id = id.ok_or(Stop::Malformed("a field number is out of range"))?;
        Ok(Some(Field { id, kind }))
    }

    fn skip_at(&mut self, kind: u8, depth: u32) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(Stop::Malformed("values are nested too deeply"));
        }
        match kind {
            kind::TRUE | kind::FALSE => Ok(()),
            kind::BYTE => self.advance(1),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(|_| ()),
            kind::DOUBLE => self.advance(8),
            kind::UUID => self.advance(16),
            kind::BINARY => {
                let len = self.varint()?;
                self.advance(len)
            }
            kind::STRUCT => {
                while let Some(field) = self.field(0)? {
                    self.skip_at(field.kind, depth + 1)?;
                }
                Ok(())
            }
            kind::LIST | kind::SET => {
                let (element, size) = self.list()?;
                (0..size).try_for_each(|_| self.skip_element(element, depth))
            }
            kind::MAP => {
                let size = self.varint()?;
                let kinds = if size == 0 { 0 } else { self.byte()? };
                (0..size).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 15, depth)
                })
            }
            _ => Err(Stop::Malformed("a value has an unknown type")),
        }
    }

    /// Skips one element of a list or map. A boolean takes a byte there, but none in a field, and readers differ in
    /// that: the parquet crate would go on at another byte. No header of Parquet has such a list.
    fn skip_element(&mut self, kind: u8, depth: u32) -> Read<()> {
        match kind {
            kind::TRUE | kind::FALSE => Err(Stop::Malformed("a list holds booleans")),
            _ => self.skip_at(kind, depth + 1),
        }
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, len: u64) -> Read<()> {
        let left = (self.bytes.len() - self.at) as u64;
        if len > left {
            return Err(Stop::Incomplete);
        }
        self.at += len as usize;
        Ok(())
    }

    fn varint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Stop::Malformed("an integer is wider than 64 bits"))
    }

    fn zigzag(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_ends_early_is_incomplete_and_not_malformed() {
        for bytes in [&[][..], &[0x15, 0x80], &[0x15]] {
            assert_eq!(Compact::new(bytes).fields(|c, f| c.skip(f.kind)), Err(Stop::Incomplete));
        }
    }

    #[test]
    fn lists_nested_without_end_are_refused() {
        let bytes = vec![0x19; 1000];
        assert!(matches!(Compact::new(&bytes).fields(|c, f| c.skip(f.kind)), Err(Stop::Malformed(_))));
    }

    #[test]
    fn a_list_of_booleans_is_refused() {
        // Field 1: a list of one boolean; a set; a map of integers to booleans.
        for bytes in [&[0x19, 0x11, 0x01, 0x00][..], &[0x1a, 0x12, 0x02, 0x00], &[0x1b, 0x01, 0x51, 0x02, 0x01, 0x00]] {
            assert!(matches!(Compact::new(bytes).fields(|c, f| c.skip(f.kind)), Err(Stop::Malformed(_))));
        }
    }

    #[test]
    fn a_list_that_claims_more_than_there_is_ends_at_once() {
        let bytes = [0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3];
        assert_eq!(Compact::new(&bytes).fields(|c, f| c.skip(f.kind)), Err(Stop::Incomplete));
    }
}
