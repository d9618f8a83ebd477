//! Errors raised with our own SQLSTATEs.

use std::ffi::{CString, c_char, c_int};

use pgrx::prelude::*;

// pgrx turns an SQLSTATE that it does not know into XX000, so our errors are raised by PostgreSQL's own functions.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errdetail(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// An error whose texts are in PostgreSQL's memory: plain pointers, so that nothing of it must be dropped.
#[derive(Clone, Copy)]
pub struct Report {
    sqlstate: c_int,
    message: *const c_char,
    /// Null if there is none.
    detail: *const c_char,
    /// Null if there is none.
    hint: *const c_char,
}

impl Report {
    /// Copies the texts into the current memory context, which PostgreSQL frees with the transaction.
    pub fn new(sqlstate: &str, message: &str, detail: Option<&str>, hint: Option<&str>) -> Self {
        let copy_or_null = |text: Option<&str>| text.map_or(std::ptr::null(), copy);
        Report {
            sqlstate: packed(sqlstate),
            message: copy(message),
            detail: copy_or_null(detail),
            hint: copy_or_null(hint),
        }
    }
}

/// Copies a text without its NUL characters.
fn copy(text: &str) -> *const c_char {
    let clean: String = text.chars().filter(|c| *c != '\0').collect();
    // SAFETY: the text is NUL-terminated and outlives the call, which copies it.
    CString::new(clean).map_or(std::ptr::null(), |text| unsafe { pg_sys::pstrdup(text.as_ptr()) }.cast_const())
}

/// Raises an ERROR. Control leaves by `longjmp`, so no frame between here and pgrx's guard may hold a value
/// that must be dropped: the argument is plain data, and callers call this last.
pub fn raise(report: Report) -> ! {
    let Report { sqlstate, message, detail, hint } = report;
    // SAFETY: the calls are those of ereport(ERROR, …), in its order: errstart, the fields, and errfinish,
    // which does not return. Each format is "%s" with one NUL-terminated argument that lives in
    // PostgreSQL's memory. The longjmp leaves only this frame and those of callers that have nothing left
    // to drop.
    unsafe {
        if errstart(PgLogLevel::ERROR as c_int, std::ptr::null()) {
            errcode(sqlstate);
            errmsg(c"%s".as_ptr(), message);
            if !detail.is_null() {
                errdetail(c"%s".as_ptr(), detail);
            }
            if !hint.is_null() {
                errhint(c"%s".as_ptr(), hint);
            }
            errfinish(c"btc_ingest".as_ptr(), 0, std::ptr::null());
        }
    }
    std::process::abort()
}

/// Packs five characters into six bits each, as the macro `MAKE_SQLSTATE` does.
fn packed(sqlstate: &str) -> c_int {
    sqlstate.bytes().take(5).enumerate().map(|(place, byte)| ((i32::from(byte) - 0x30) & 0x3f) << (6 * place)).sum()
}
