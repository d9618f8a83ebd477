//! Statements with one plan for all arguments. PostgreSQL itself decides anew at each execution between a plan for
//! these arguments and one for all, and takes the former wherever the latter looks dearer, as it does with arrays.

use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::datum::{Datum, DatumWithOid};
use pgrx::pg_sys;
use pgrx::spi::SpiClient;

use super::session::in_recovery;
use super::sqlstates::with_sqlstates;
use crate::error::{Error, Result};

/// A plan that outlives the transaction. Dropping it frees it.
pub struct Plan(pg_sys::SPIPlanPtr);

impl Plan {
    /// Prepares a statement with arguments of these types.
    pub fn prepare(_connection: &SpiClient<'_>, sql: &str, args: &[DatumWithOid<'_>]) -> Result<Plan> {
        let sql = CString::new(sql).map_err(|error| Error::Internal { why: error.to_string() })?;
        let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
        let (count, options) = (types.len() as c_int, pg_sys::CURSOR_OPT_GENERIC_PLAN as c_int);
        let plan = with_sqlstates(|| {
            // SAFETY: the caller has an SPI connection. Text and types outlive the call, which copies them.
            unsafe { pg_sys::SPI_prepare_cursor(sql.as_ptr(), count, types.as_mut_ptr(), options) }
        });
        if plan.is_null() {
            return Err(failed("SPI_prepare_cursor"));
        }
        // SAFETY: the plan was made above and is not kept yet.
        match unsafe { pg_sys::SPI_keepplan(plan) } {
            0 => Ok(Plan(plan)),
            _ => Err(failed("SPI_keepplan")),
        }
    }

    /// Runs the statement and returns the number of its rows.
    pub fn execute(&self, _connection: &SpiClient<'_>, args: &[DatumWithOid<'_>]) -> Result<u64> {
        self.run(args)?;
        let rows = match Table::take() {
            Some(table) => table.rows(),
            // SAFETY: a variable of this thread, which the statement above has set.
            None => unsafe { pg_sys::SPI_processed },
        };
        Ok(rows)
    }

    /// Runs the statement and returns the first column of its first row as text. Returns `None` for null and for no
    /// row.
    pub fn text(&self, _connection: &SpiClient<'_>, args: &[DatumWithOid<'_>]) -> Result<Option<String>> {
        self.run(args)?;
        Ok(Table::take().and_then(|table| table.first()))
    }

    fn run(&self, args: &[DatumWithOid<'_>]) -> Result<()> {
        let value = |arg: &DatumWithOid<'_>| arg.datum().map_or(pg_sys::Datum::null(), Datum::sans_lifetime);
        let null = |arg: &DatumWithOid<'_>| if arg.datum().is_none() { b'n' } else { b' ' } as c_char;
        let mut values: Vec<pg_sys::Datum> = args.iter().map(value).collect();
        let nulls: Vec<c_char> = args.iter().map(null).collect();
        // SAFETY: the plan is kept until this value is dropped.
        let expected = unsafe { pg_sys::SPI_getargcount(self.0) };
        if expected != args.len() as c_int {
            let why = format!("a statement takes {expected} arguments, and {} are given", args.len());
            return Err(Error::Internal { why });
        }
        // SAFETY: a variable of this thread. What an earlier statement has left there is not this one's.
        unsafe { pg_sys::SPI_tuptable = std::ptr::null_mut() };
        let code = with_sqlstates(|| {
            // SAFETY: the caller has an SPI connection and one argument for each parameter, of the types with which the
            // statement was prepared. All of them outlive the call.
            unsafe { pg_sys::SPI_execute_plan(self.0, values.as_mut_ptr(), nulls.as_ptr(), in_recovery(), 0) }
        });
        if code < 0 { Err(failed("SPI_execute_plan")) } else { Ok(()) }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan is kept, and nothing else frees it.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

/// The rows of the last statement. Dropping it frees them.
struct Table(*mut pg_sys::SPITupleTable);

impl Table {
    /// Returns `None` if the statement returns no rows.
    fn take() -> Option<Table> {
        // SAFETY: a variable of this thread, which the last statement has set.
        let table = unsafe { pg_sys::SPI_tuptable };
        (!table.is_null()).then_some(Table(table))
    }

    fn rows(&self) -> u64 {
        // SAFETY: the table is freed with this value and not before.
        unsafe { (*self.0).numvals }
    }

    fn first(&self) -> Option<String> {
        if self.rows() == 0 {
            return None;
        }
        // SAFETY: the table has a row, and its descriptor describes it.
        let text = unsafe { pg_sys::SPI_getvalue(*(*self.0).vals, (*self.0).tupdesc, 1) };
        if text.is_null() {
            return None;
        }
        // SAFETY: the call has returned a text that ends with a zero byte, in the current memory context.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the table is that of this SPI connection, and nothing else frees it.
        unsafe { pg_sys::SPI_freetuptable(self.0) };
    }
}

fn failed(call: &str) -> Error {
    // SAFETY: a variable of this thread.
    Error::Internal { why: format!("{call} returned {}", unsafe { pg_sys::SPI_result }) }
}
