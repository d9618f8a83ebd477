//! The types of the fields in a footer, before the parquet crate decodes it. The crate (60.1) goes by the numbers of
//! the fields alone: where a field has another type than it expects, it reads other bytes than [`Compact`] does, and
//! what `scan` has found says nothing about what it decodes.

use super::thrift::{Compact, Field, Stop, kind};

/// What a value must be.
enum Shape {
    Bool,
    Byte,
    /// An integer of 16 to 64 bits. They all are written alike.
    Int,
    Double,
    Binary,
    /// A list of such values, and the most bytes that the crate takes for each of them beyond its texts.
    List(&'static Shape, u64),
    /// A struct of these fields. The crate skips others by their types, as [`Compact`] does.
    Struct(&'static [(i16, Shape)]),
}

use Shape::{Binary, Bool, Byte, Double, Int, List, Struct};

const EMPTY: Shape = Struct(&[]);
const UNIT: Shape = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const TIME: Shape = Struct(&[(1, Bool), (2, UNIT)]);
const LOGICAL_TYPE: Shape = Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, Int), (2, Int)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, Int)])),
    (19, EMPTY),
]);
const SCHEMA_ELEMENT: Shape = Struct(&[
    (1, Int),
    (2, Int),
    (3, Int),
    (4, Binary),
    (5, Int),
    (6, Int),
    (7, Int),
    (8, Int),
    (9, Int),
    (10, LOGICAL_TYPE),
]);
const STATISTICS: Shape =
    Struct(&[(1, Binary), (2, Binary), (3, Int), (4, Int), (5, Binary), (6, Binary), (7, Bool), (8, Bool), (9, Int)]);
const BOX: Shape =
    Struct(&[(1, Double), (2, Double), (3, Double), (4, Double), (5, Double), (6, Double), (7, Double), (8, Double)]);
/// The options of the decoding leave out the statistics of encodings (13) and sizes (16).
const COLUMN_META_DATA: Shape = Struct(&[
    (1, Int),
    (2, List(&Int, 0)),
    (4, Int),
    (5, Int),
    (6, Int),
    (7, Int),
    (9, Int),
    (10, Int),
    (11, Int),
    (12, STATISTICS),
    (14, Int),
    (15, Int),
    (17, Struct(&[(1, BOX), (2, List(&Int, 8))])),
]);
const COLUMN_CHUNK: Shape =
    Struct(&[(1, Binary), (2, Int), (3, COLUMN_META_DATA), (4, Int), (5, Int), (6, Int), (7, Int)]);
const SORTING_COLUMN: Shape = Struct(&[(1, Int), (2, Bool), (3, Bool)]);
const ROW_GROUP: Shape = Struct(&[
    (1, List(&COLUMN_CHUNK, 0)),
    (2, Int),
    (3, Int),
    (4, List(&SORTING_COLUMN, 16)),
    (5, Int),
    (6, Int),
    (7, Int),
]);
const KEY_VALUE: Shape = Struct(&[(1, Binary), (2, Binary)]);
const FILE_META_DATA: Shape = Struct(&[
    (1, Int),
    (2, List(&SCHEMA_ELEMENT, 0)),
    (3, Int),
    (4, List(&ROW_GROUP, 256)),
    (5, List(&KEY_VALUE, 128)),
    (6, Binary),
    (7, List(&Struct(&[(1, EMPTY), (2, EMPTY)]), 16)),
]);

/// Checks a footer. Returns the most bytes that its lists take when they are decoded, without their texts, the schema's
/// elements and the column chunks.
pub(super) fn check(footer: &[u8]) -> Result<u64, Stop> {
    let mut cost = 0;
    FILE_META_DATA.walk(&mut Compact::new(footer), kind::STRUCT, &mut cost)?;
    Ok(cost)
}

impl Shape {
    fn walk(&self, input: &mut Compact<'_>, found: u8, cost: &mut u64) -> Result<(), Stop> {
        match (self, found) {
            (Bool, kind::TRUE | kind::FALSE)
            | (Byte, kind::BYTE)
            | (Int, kind::I16 | kind::I32 | kind::I64)
            | (Double, kind::DOUBLE)
            | (Binary, kind::BINARY) => input.skip(found),
            (List(of, each), kind::LIST | kind::SET) => {
                let (element, size) = input.list()?;
                (0..size).try_for_each(|_| {
                    *cost = cost.saturating_add(*each);
                    of.walk(input, element, cost)
                })
            }
            (Struct(known), kind::STRUCT) => {
                input.fields(|input, Field { id, kind }| match known.iter().find(|(known, _)| *known == id) {
                    Some((_, shape)) => shape.walk(input, kind, cost),
                    None => input.skip(kind),
                })
            }
            _ => Err(Stop::Malformed("a field has another type than it must have")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_type_is_refused() {
        // The version as a text, whose bytes the crate would read as fields.
        assert!(matches!(check(&[0x18, 0x01, 0x00, 0x00]), Err(Stop::Malformed(_))));
        // The version as an integer.
        assert_eq!(check(&[0x15, 0x02, 0x00]), Ok(0));
        // The row groups as a struct.
        assert!(matches!(check(&[0x4c, 0x00, 0x00]), Err(Stop::Malformed(_))));
    }

    #[test]
    fn each_pair_of_key_and_value_is_counted() {
        // Field 5: a list of three structs, each with an empty key.
        let pair = [0x18, 0x00, 0x00];
        let footer = [&[0x59, 0x3c][..], &pair, &pair, &pair, &[0x00]].concat();
        assert_eq!(check(&footer), Ok(3 * 128));
    }
}
