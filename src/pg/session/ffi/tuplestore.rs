//! A batch of encoded ticks as a relation that statements read.

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_int};

use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::tuple::{COLUMNS, Tuples};

// `tuple` writes MinimalTuples by hand. The crate does not build if this PostgreSQL has another layout.
const _: () = {
    assert!(cfg!(target_endian = "little") && size_of::<usize>() == 8);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_infomask2) == 10);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_infomask) == 12);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_hoff) == 14);
    assert!(std::mem::offset_of!(pg_sys::MinimalTupleData, t_bits) == 15);
};

/// The name under which statements read a [`TickStore`].
const RELATION: &CStr = c"incoming_ticks";

/// A batch of encoded ticks that the statements of the current SPI connection read as `incoming_ticks`: an
/// ephemeral named relation, as triggers' transition tables are. It needs no function, no table and no privilege.
pub struct TickStore {
    store: *mut pg_sys::Tuplestorestate,
}

impl TickStore {
    /// Registers all tuples but those in `skip`. The caller has an SPI connection that outlives the value.
    pub fn register(tuples: &Tuples, skip: &HashSet<usize>, symbol_collation: pg_sys::Oid) -> Result<TickStore> {
        let which: Vec<usize> = (0..tuples.len()).filter(|index| !skip.contains(index)).collect();
        Self::register_these(tuples, &which, symbol_collation)
    }

    /// Registers some tuples, by their indices. The caller has an SPI connection that outlives the value.
    pub fn register_these(tuples: &Tuples, which: &[usize], symbol_collation: pg_sys::Oid) -> Result<TickStore> {
        let descriptor = descriptor(symbol_collation)?;
        let kilobytes = (tuples.size() / 512).clamp(1024, i32::MAX as usize) as c_int;
        // SAFETY: the current memory context is the SPI connection's, which outlives the store; `drop`
        // frees the store before.
        let store = unsafe { pg_sys::tuplestore_begin_heap(false, false, kilobytes) };
        let this = TickStore { store };
        // SAFETY: every column of the descriptor is set, and it outlives the slot, which is dropped below.
        let slot = unsafe { pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsMinimalTuple) };
        for index in which {
            let tuple = tuples.words(*index).as_ptr() as pg_sys::MinimalTuple;
            // SAFETY: the encoder has written an aligned, complete MinimalTuple of this descriptor. The
            // slot neither frees nor writes it, and the store copies it before the next tuple takes its place.
            unsafe { pg_sys::ExecStoreMinimalTuple(tuple, slot, false) };
            // SAFETY: the store is open for writing, and the slot holds a tuple.
            unsafe { pg_sys::tuplestore_puttupleslot(store, slot) };
        }
        // SAFETY: the slot was made above and is not used again.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(slot) };

        // SAFETY: palloc0 returns zeroed, aligned memory of the struct's size, or raises an error. All
        // fields may be zero.
        let relation = unsafe { pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>()) }
            .cast::<pg_sys::EphemeralNamedRelationData>();
        // SAFETY: no other code knows `relation` yet. The name is static and not written; descriptor and
        // store live until the relation is unregistered.
        unsafe {
            (*relation).md.name = RELATION.as_ptr().cast_mut();
            (*relation).md.tupdesc = descriptor;
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = which.len() as f64;
            (*relation).reldata = store.cast();
        }
        // SAFETY: the relation is complete, and the caller has an SPI connection, in whose memory it lives.
        let code = unsafe { pg_sys::SPI_register_relation(relation) };
        if code != pg_sys::SPI_OK_REL_REGISTER as c_int {
            return Err(Error::Internal { why: format!("SPI_register_relation returned {code}") });
        }
        Ok(this)
    }
}

impl Drop for TickStore {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An error is unwinding. The transaction's end frees both, and a call of PostgreSQL could raise
            // a second error.
            return;
        }
        // SAFETY: the SPI connection is still open, as it outlives this value; an unknown name is not an error.
        unsafe { pg_sys::SPI_unregister_relation(RELATION.as_ptr()) };
        // SAFETY: `register` has made the store, and no statement finds it any more.
        unsafe { pg_sys::tuplestore_end(self.store) };
    }
}

/// Returns the descriptor of an encoded tuple.
fn descriptor(symbol_collation: pg_sys::Oid) -> Result<pg_sys::TupleDesc> {
    // SAFETY: the number of columns is a small constant; the memory is the current context's.
    let descriptor = unsafe { pg_sys::CreateTemplateTupleDesc(COLUMNS.len() as c_int) };
    for (index, (name, sql_type)) in COLUMNS.iter().enumerate() {
        let number = (index + 1) as pg_sys::AttrNumber;
        let name = CString::new(*name).map_err(|error| Error::Internal { why: error.to_string() })?;
        let (oid, typmod) = type_of(sql_type);
        // SAFETY: the number is between 1 and the descriptor's columns; the name is NUL-terminated and is copied.
        unsafe { pg_sys::TupleDescInitEntry(descriptor, number, name.as_ptr(), oid, typmod, 0) };
        if COLUMNS[index].0 == "symbol" {
            // SAFETY: the call above has made the entry of this number.
            unsafe { pg_sys::TupleDescInitEntryCollation(descriptor, number, symbol_collation) };
        }
    }
    Ok(descriptor)
}

/// Returns oid and type modifier of a type in [`COLUMNS`]. A numeric's modifier is made of precision and
/// scale as in `numeric.c`.
fn type_of(sql_type: &str) -> (pg_sys::Oid, i32) {
    let numeric = |precision: i32, scale: i32| (precision << 16 | scale) + pg_sys::VARHDRSZ as i32;
    match sql_type {
        "timestamptz" => (pg_sys::TIMESTAMPTZOID, -1),
        "text" => (pg_sys::TEXTOID, -1),
        "bigint" => (pg_sys::INT8OID, -1),
        "boolean" => (pg_sys::BOOLOID, -1),
        "numeric(18,8)" => (pg_sys::NUMERICOID, numeric(18, 8)),
        _ => (pg_sys::NUMERICOID, numeric(24, 12)),
    }
}

#[cfg(any(test, feature = "pg_test"))]
pub mod test_support {
    //! The tuples that PostgreSQL itself forms, to compare ours with them.

    use super::*;

    /// Returns the bytes that `heap_form_minimal_tuple` makes of one row, which has the columns of an
    /// encoded tuple.
    pub fn formed_by_postgres(datums: &mut [pg_sys::Datum], nulls: &mut [bool]) -> Vec<u8> {
        let descriptor = descriptor(pg_sys::C_COLLATION_OID).unwrap_or(std::ptr::null_mut());
        // SAFETY: both slices have an element for each column of the descriptor, and the datums are of its types.
        let tuple = unsafe { pg_sys::heap_form_minimal_tuple(descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr()) };
        // SAFETY: a MinimalTuple begins with its own length in bytes, and all of them are initialised.
        unsafe { std::slice::from_raw_parts(tuple.cast::<u8>(), (*tuple).t_len as usize) }.to_vec()
    }
}
