//! A scan of the footer before the parquet crate decodes it: it detects encryption and limits depth and counts.
//!
//! Kept although the crate (60.1) parses the footer as well. The crate does not report encryption without its feature
//! of that name. It recurses as deep as the schema. It compares a list's count with the remaining bytes only, and one
//! byte of footer can become a kilobyte in memory. Where it skips a list of booleans, it passes over no byte, but
//! counts to the end of the list, which may be billions.

use super::damage::damaged;
use super::shape;
use super::thrift::{Compact, Field, Stop, kind};
use crate::error::{Error, Result};

/// A schema of ticks is never deeper than this, and the crate's recursion must not exhaust the stack.
const MAX_SCHEMA_DEPTH: usize = 64;

/// Upper estimates of the memory that the crate takes per column chunk and per schema element. Its own `memory_size`
/// returns about 450 and 400 bytes if names and statistics are short.
const CHUNK_BYTES: u64 = 1024;
const ELEMENT_BYTES: u64 = 512;

/// The counts in a footer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct FooterScan {
    elements: u64,
    chunks: u64,
    /// What other lists take.
    lists: u64,
    encryption: Option<&'static str>,
}

impl FooterScan {
    /// Returns the most bytes that the decoded metadata takes, without the texts in it.
    pub fn decoded_size(&self) -> u64 {
        let elements = self.elements.saturating_mul(ELEMENT_BYTES);
        elements.saturating_add(self.chunks.saturating_mul(CHUNK_BYTES)).saturating_add(self.lists)
    }
}

/// Scans the Thrift `FileMetaData` in `footer`.
pub(super) fn scan(footer: &[u8]) -> Result<FooterScan> {
    let mut found = FooterScan::default();
    let mut schema = Vec::new();
    let walked = Compact::new(footer).fields(|input, field| match (field.id, field.kind) {
        (2, kind::LIST) => structs(input, |input| {
            schema.push(children(input)?);
            Ok(())
        }),
        (4, kind::LIST) => structs(input, |input| found.row_group(input)),
        (8, other) => {
            found.encryption = Some("Columns are encrypted; the footer is not.");
            input.skip(other)
        }
        (_, other) => input.skip(other),
    });
    let refused = |stop| match stop {
        Stop::Incomplete => damaged("the footer ends early"),
        Stop::Malformed(why) => damaged(format!("the footer is malformed: {why}")),
    };
    walked.map_err(refused)?;
    if let Some(what) = found.encryption {
        return Err(Error::Encrypted { what: what.into() });
    }
    found.lists = shape::check(footer).map_err(refused)?;
    check_schema(&schema)?;
    found.elements = schema.len() as u64;
    Ok(found)
}

impl FooterScan {
    fn row_group(&mut self, input: &mut Compact<'_>) -> std::result::Result<(), Stop> {
        input.fields(|input, field| match (field.id, field.kind) {
            (1, kind::LIST) => structs(input, |input| {
                self.chunks += 1;
                input.fields(|input, field| self.chunk_field(input, field))
            }),
            (_, other) => input.skip(other),
        })
    }

    fn chunk_field(&mut self, input: &mut Compact<'_>, field: Field) -> std::result::Result<(), Stop> {
        if matches!(field.id, 8 | 9) {
            self.encryption = Some("A column is encrypted; the footer is not.");
        }
        input.skip(field.kind)
    }
}

fn structs(
    input: &mut Compact<'_>,
    mut each: impl FnMut(&mut Compact<'_>) -> std::result::Result<(), Stop>,
) -> std::result::Result<(), Stop> {
    let (element, size) = input.list()?;
    if size > 0 && element != kind::STRUCT {
        return Err(Stop::Malformed("a list holds something else than structs"));
    }
    (0..size).try_for_each(|_| each(input))
}

/// Reads `num_children` of a schema element, which is 0 for a leaf.
fn children(input: &mut Compact<'_>) -> std::result::Result<i32, Stop> {
    let mut children = 0;
    input.fields(|input, field| match (field.id, field.kind) {
        (5, kind::I32) => {
            children = input.i32()?;
            Ok(())
        }
        (_, other) => input.skip(other),
    })?;
    Ok(children)
}

/// Checks that the elements are a tree in depth-first order: every group has all its children, and none is too deep.
fn check_schema(children: &[i32]) -> Result<()> {
    let mut open: Vec<i32> = Vec::new();
    for (index, &count) in children.iter().enumerate() {
        if count < 0 || count as usize >= children.len() {
            return Err(damaged(format!("the schema has a group of {count} columns")));
        }
        if index > 0 {
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => return Err(damaged("the schema has columns outside its root")),
            }
        }
        if count > 0 {
            open.push(count);
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(Error::Unsupported { what: format!("columns nested more than {MAX_SCHEMA_DEPTH} deep") });
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    if open.is_empty() { Ok(()) } else { Err(damaged("the schema ends within a group")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_must_be_a_tree() {
        assert!(check_schema(&[2, 0, 0]).is_ok());
        assert!(check_schema(&[2, 1, 0, 0]).is_ok());
        assert!(check_schema(&[0]).is_ok());
        assert!(check_schema(&[2, 0]).is_err());
        assert!(check_schema(&[1, 0, 0]).is_err());
        assert!(check_schema(&[i32::MAX, 0]).is_err());
        assert!(check_schema(&[-1, 0]).is_err());
    }

    #[test]
    fn a_schema_that_would_exhaust_the_stack_is_refused() {
        let mut deep = vec![1; 100_000];
        deep.push(0);
        assert!(matches!(check_schema(&deep), Err(Error::Unsupported { .. })));
    }
}
