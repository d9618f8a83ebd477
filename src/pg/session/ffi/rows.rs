//! The rows of a SELECT, passed on one by one from the executor's own slot. No row is copied, however many there are.
//! Their values are read without conversion, so the types of the columns are compared with the expected ones first: the
//! owner of a table may have changed them.

use std::cell::RefCell;
use std::ffi::{CString, c_int};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::varlena::{varatt_is_1b_e, varatt_is_4b_c, vardata_any, varsize_any_exhdr};

use super::sqlstates::with_sqlstates;
use crate::error::{Error, Result};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// bigint
    Int8,
    /// timestamptz
    Time,
    /// boolean
    Bool,
    /// text
    Text,
    /// numeric
    Numeric,
    /// double precision
    Float8,
}

impl Column {
    fn oid(self) -> pg_sys::Oid {
        match self {
            Column::Int8 => pg_sys::INT8OID,
            Column::Time => pg_sys::TIMESTAMPTZOID,
            Column::Bool => pg_sys::BOOLOID,
            Column::Text => pg_sys::TEXTOID,
            Column::Numeric => pg_sys::NUMERICOID,
            Column::Float8 => pg_sys::FLOAT8OID,
        }
    }
}

/// One row, for as long as its receiver looks at it.
pub struct Row<'a> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
    /// Copies of values that were compressed or stored apart.
    copies: RefCell<Vec<*mut pg_sys::varlena>>,
}

impl Row<'_> {
    /// Returns a bigint or a timestamp, or `None` for null. The column is one of [`Column::Int8`] or [`Column::Time`].
    #[inline]
    pub fn int8(&self, column: usize) -> Option<i64> {
        (!self.nulls[column]).then(|| self.values[column].value() as i64)
    }

    /// Returns a boolean, or `None` for null. The column is one of [`Column::Bool`].
    #[inline]
    pub fn bool(&self, column: usize) -> Option<bool> {
        (!self.nulls[column]).then(|| self.values[column].value() & 0xff != 0)
    }

    /// Returns a double, or `None` for null. The column is one of [`Column::Float8`].
    #[inline]
    pub fn float8(&self, column: usize) -> Option<f64> {
        (!self.nulls[column]).then(|| f64::from_bits(self.values[column].value() as u64))
    }

    /// Returns the bytes of a text or a numeric without its length header, or `None` for null. The column is one of
    /// [`Column::Text`] or [`Column::Numeric`].
    #[inline]
    pub fn bytes(&self, column: usize) -> Option<&[u8]> {
        if self.nulls[column] {
            return None;
        }
        let stored = self.values[column].cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: a value of a type with a length header that is not null points to one. Its first byte says of which
        // kind it is. Most values are neither, and a guarded call of PostgreSQL for each of them would take long.
        let value = if unsafe { varatt_is_4b_c(stored) || varatt_is_1b_e(stored) } {
            // SAFETY: as above. PostgreSQL returns a copy in the current memory context, which outlives the row.
            let copy = unsafe { pg_sys::pg_detoast_datum_packed(stored) };
            self.copies.borrow_mut().push(copy);
            copy
        } else {
            stored
        };
        // SAFETY: the value is neither compressed nor stored apart, and its header says how long it is. The executor
        // keeps it for as long as the row is in its slot; a copy is freed with the row.
        Some(unsafe { std::slice::from_raw_parts(vardata_any(value).cast(), varsize_any_exhdr(value)) })
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        for copy in self.copies.take() {
            // SAFETY: `bytes` has got the copy from PostgreSQL's allocator, and no slice of it outlives the row.
            unsafe { pg_sys::pfree(copy.cast()) };
        }
    }
}

/// What the executor calls for each row. The first field is what PostgreSQL knows of it.
#[repr(C)]
struct Receiver<'a> {
    base: pg_sys::DestReceiver,
    columns: &'a [Column],
    /// Whether the rows have these columns.
    fits: bool,
    each: &'a mut dyn FnMut(&Row<'_>) -> Result<()>,
    failed: Option<Error>,
}

/// Runs a SELECT in the snapshot of the calling statement, and passes each row to `each` until it returns an error.
/// The executor answers interrupts between two rows. A result with other columns is refused.
pub fn for_each_row(
    connection: &SpiClient<'_>,
    sql: &str,
    columns: &[Column],
    args: &[DatumWithOid<'_>],
    each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    run(connection, sql, columns, args, true, each)
}

/// [`for_each_row`] in a fresh snapshot: also what this transaction has written, and what others have committed since
/// the calling statement began. Not on a standby.
pub fn for_each_row_now(
    connection: &SpiClient<'_>,
    sql: &str,
    columns: &[Column],
    args: &[DatumWithOid<'_>],
    each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    run(connection, sql, columns, args, false, each)
}

fn run(
    _connection: &SpiClient<'_>,
    sql: &str,
    columns: &[Column],
    args: &[DatumWithOid<'_>],
    in_callers_snapshot: bool,
    mut each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    let sql = CString::new(sql).map_err(|error| Error::Internal { why: error.to_string() })?;
    let mut receiver = Receiver {
        base: pg_sys::DestReceiver {
            receiveSlot: Some(receive),
            rStartup: Some(start_up),
            rShutdown: Some(shut_down),
            rDestroy: Some(shut_down),
            mydest: pg_sys::CommandDest::DestNone,
        },
        columns,
        fits: false,
        each: &mut each,
        failed: None,
    };
    let options = pg_sys::SPIExecuteOptions {
        params: params(args),
        read_only: in_callers_snapshot,
        dest: (&raw mut receiver).cast(),
        ..Default::default()
    };
    // SAFETY: the caller has an SPI connection. Text, options and receiver outlive the call, and the receiver's four
    // functions are set.
    let code = with_sqlstates(|| unsafe { pg_sys::SPI_execute_extended(sql.as_ptr(), &raw const options) });
    if let Some(error) = receiver.failed {
        return Err(error);
    }
    if code < 0 {
        return Err(Error::Internal { why: format!("SPI_execute_extended returned {code}") });
    }
    Ok(())
}

/// Returns the arguments as parameters $1, $2, … in the current memory context.
fn params(args: &[DatumWithOid<'_>]) -> pg_sys::ParamListInfo {
    // SAFETY: the call allocates a list of so many parameters, and sets how the parser finds their types.
    let list = unsafe { pg_sys::makeParamList(args.len() as c_int) };
    // SAFETY: the list ends with an array of so many elements.
    let params = unsafe { (*list).params.as_mut_slice(args.len()) };
    for (param, arg) in params.iter_mut().zip(args) {
        let value = arg.datum();
        *param = pg_sys::ParamExternData {
            isnull: value.is_none(),
            // The caller holds the arguments until the statement has ended.
            value: value.map_or(pg_sys::Datum::null(), pgrx::datum::Datum::sans_lifetime),
            pflags: pg_sys::PARAM_FLAG_CONST as u16,
            ptype: arg.oid(),
        };
    }
    list
}

/// Passes one row on. Returns `false` to end the statement early.
#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, this: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: PostgreSQL passes the receiver of the options, which begins with this struct and is used by no other code
    // during the call.
    let this = unsafe { &mut *this.cast::<Receiver<'_>>() };
    if !this.fits {
        let why = "a column of the tables has another type than in a new installation".to_owned();
        this.failed = Some(Error::BadTarget { what: why });
        return false;
    }
    // SAFETY: the slot holds a row.
    unsafe { pg_sys::slot_getallattrs(slot) };
    // SAFETY: the slot holds a row.
    let columns = unsafe { (*slot).tts_nvalid } as usize;
    // SAFETY: after the call above, both arrays have a valid element for each of these columns.
    let values = unsafe { std::slice::from_raw_parts((*slot).tts_values, columns) };
    // SAFETY: as above.
    let nulls = unsafe { std::slice::from_raw_parts((*slot).tts_isnull, columns) };
    let row = Row { values, nulls, copies: RefCell::default() };
    this.failed = (this.each)(&row).err();
    this.failed.is_none()
}

/// Compares the columns of the rows that follow with the expected ones.
#[pg_guard]
unsafe extern "C-unwind" fn start_up(this: *mut pg_sys::DestReceiver, _operation: c_int, rows: pg_sys::TupleDesc) {
    // SAFETY: PostgreSQL passes the receiver of the options, which begins with this struct and is used by no other code
    // during the call.
    let this = unsafe { &mut *this.cast::<Receiver<'_>>() };
    // SAFETY: the descriptor is that of the statement's rows, and outlives the call.
    let count = unsafe { (*rows).natts } as usize;
    // SAFETY: the descriptor ends with an array of so many columns.
    let found = unsafe { (*rows).attrs.as_slice(count) };
    this.fits = found.iter().map(|column| column.atttypid).eq(this.columns.iter().map(|column| column.oid()));
}

#[pg_guard]
unsafe extern "C-unwind" fn shut_down(_this: *mut pg_sys::DestReceiver) {}
