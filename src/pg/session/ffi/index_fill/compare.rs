//! Compares key columns of rows as the index does.

use std::cmp::Ordering;

use pgrx::pg_sys;

use super::calls::lc_collate_is_c;
use crate::tuple::leaf::entry::Key;

/// `INDOPTION_DESC`.
const DESCENDING: i16 = 1;

/// How one key column is compared.
pub struct Comparison {
    kind: Kind,
    descending: bool,
}

enum Kind {
    /// 8-byte integers, and times.
    Integer,
    /// Texts by their bytes.
    Bytes,
    /// By the function of the operator class.
    Function { function: *mut pg_sys::FmgrInfo, collation: pg_sys::Oid },
}

impl Comparison {
    /// Returns the comparison of a key column, counted from 0. The index must be open.
    pub fn of(index: pg_sys::Relation, column: usize) -> Self {
        // SAFETY: the index is open and a B-tree, which has this function for each key column. It lives as long as the
        // index is open.
        let function = unsafe { pg_sys::index_getprocinfo(index, column as i16 + 1, 1) };
        // SAFETY: an open index has an entry for each key column in this array.
        let collation = unsafe { *(*index).rd_indcollation.add(column) };
        // SAFETY: the same holds for this array.
        let option = unsafe { *(*index).rd_indoption.add(column) };
        // SAFETY: index_getprocinfo has filled it.
        let kind = match unsafe { (*function).fn_oid }.to_u32() {
            pg_sys::F_BTINT8CMP | pg_sys::F_TIMESTAMP_CMP | pg_sys::F_TIMESTAMPTZ_CMP => Kind::Integer,
            // SAFETY: the collation is that of an index, so it exists.
            pg_sys::F_BTTEXTCMP if unsafe { is_c(collation) } => Kind::Bytes,
            _ => Kind::Function { function, collation },
        };
        Self { kind, descending: option & DESCENDING != 0 }
    }

    /// Compares two values of the column in the order of the index.
    pub fn compare(&self, a: &Key<'_>, b: &Key<'_>) -> Ordering {
        let order = match (a, b, &self.kind) {
            (Key::Fixed(a), Key::Fixed(b), _) if a == b => Ordering::Equal,
            (Key::Fixed(a), Key::Fixed(b), Kind::Integer) => (*a as i64).cmp(&(*b as i64)),
            // Values with the same bytes are equal in every operator class.
            (Key::Varlena { bytes: a, .. }, Key::Varlena { bytes: b, .. }, _) if a == b => Ordering::Equal,
            (Key::Varlena { bytes: a, .. }, Key::Varlena { bytes: b, .. }, Kind::Bytes) => a.cmp(b),
            (_, _, Kind::Function { function, collation }) => {
                // SAFETY: the function belongs to the open index, and the values are those of its column, which are
                // not null.
                let result = unsafe { pg_sys::FunctionCall2Coll(*function, *collation, datum(a), datum(b)) };
                (result.value() as i32).cmp(&0)
            }
            // A column has one type.
            (_, _, Kind::Integer | Kind::Bytes) => Ordering::Equal,
        };
        if self.descending { order.reverse() } else { order }
    }
}

fn datum(key: &Key<'_>) -> pg_sys::Datum {
    match *key {
        Key::Fixed(datum) | Key::Varlena { datum, .. } => pg_sys::Datum::from(datum),
    }
}

/// # Safety
///
/// The collation must exist.
unsafe fn is_c(collation: pg_sys::Oid) -> bool {
    // SAFETY: the closure owns nothing that needs dropping.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| lc_collate_is_c(collation)) }
}
