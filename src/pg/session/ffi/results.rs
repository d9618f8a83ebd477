//! The rows of a function that returns a set, all of them in one call: PostgreSQL keeps them in memory up to
//! `work_mem`, and beyond that on disk. Row by row, each call would set and reset all settings of the function.

use pgrx::prelude::*;

/// One value of a row.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Null of any type.
    Null,
    /// A bigint, or a time in microseconds since 2000.
    Int8(i64),
    /// A boolean.
    Bool(bool),
    /// A numeric without its length header.
    Numeric(&'a [u8]),
    /// An interval in microseconds.
    Interval(i64),
}

/// Room for a by-reference value of a row: a length header and a number, or an interval.
const ROOM: usize = 64;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// The most columns of a row.
const COLUMNS: usize = 16;

/// The rows that the current call returns.
pub struct ResultRows {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    columns: usize,
    /// Memory of the by-reference values of one row, aligned as PostgreSQL wants it.
    room: [[u64; ROOM / 8]; COLUMNS],
}

impl ResultRows {
    /// Begins the result of a function that SQL declares with RETURNS TABLE. `call` is the function's last argument.
    pub fn begin(call: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: PostgreSQL passes the call's own data, which outlives the call. The function raises an error if the
        // caller does not accept a set; it makes a tuple store that ends with the caller's query.
        unsafe { pg_sys::InitMaterializedSRF(call, pg_sys::MAT_SRF_USE_EXPECTED_DESC) };
        // SAFETY: as above; after the call above, the result's data is a ReturnSetInfo with store and descriptor.
        let info = unsafe { &*(*call).resultinfo.cast::<pg_sys::ReturnSetInfo>() };
        // SAFETY: the descriptor was set by the call above.
        let columns = unsafe { (*info.setDesc).natts } as usize;
        ResultRows { store: info.setResult, descriptor: info.setDesc, columns, room: [[0; ROOM / 8]; COLUMNS] }
    }

    /// Adds a row. The values have the types of the function's columns, in their order; what is left out is null.
    pub fn put(&mut self, values: &[Value<'_>]) {
        let mut datums = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        for (column, value) in values.iter().take(self.columns.min(COLUMNS)).enumerate() {
            nulls[column] = matches!(value, Value::Null);
            datums[column] = datum(*value, &mut self.room[column]);
        }
        // SAFETY: store and descriptor were made for this call. Both arrays have an element for each column, or the
        // function would have more than COLUMNS; the store copies what the values point to.
        unsafe {
            pg_sys::tuplestore_putvalues(self.store, self.descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
}

/// Returns a value as PostgreSQL passes it; what is passed by reference lies in `room`.
fn datum(value: Value<'_>, room: &mut [u64; ROOM / 8]) -> pg_sys::Datum {
    match value {
        Value::Null => pg_sys::Datum::null(),
        Value::Int8(number) => pg_sys::Datum::from(number),
        Value::Bool(bool) => pg_sys::Datum::from(bool),
        Value::Numeric(bytes) => {
            let bytes = &bytes[..bytes.len().min(ROOM - 4)];
            // The header of four bytes: the length with itself, in the upper 30 bits.
            let header = ((bytes.len() + 4) as u32) << 2;
            let mut words = [0u8; ROOM];
            words[..4].copy_from_slice(&header.to_le_bytes());
            words[4..4 + bytes.len()].copy_from_slice(bytes);
            for (word, bytes) in room.iter_mut().zip(words.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            pg_sys::Datum::from(room.as_ptr())
        }
        Value::Interval(us) => {
            // Microseconds, then days and months. Whole days are apart, as in the difference of two times.
            let days = us / DAY;
            (room[0], room[1]) = ((us - days * DAY) as u64, u64::from(days as u32));
            pg_sys::Datum::from(room.as_ptr())
        }
    }
}
