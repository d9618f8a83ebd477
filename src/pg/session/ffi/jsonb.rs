//! Arguments of the type jsonb. pgrx's own type for them panics where serde does not read what PostgreSQL stores: JSON
//! that is nested deeply, and numbers beyond a double.

use std::ffi::CString;

use pgrx::{AnyElement, direct_function_call, pg_sys};

/// Returns an argument that SQL declares as jsonb as a text.
pub fn jsonb_text(argument: AnyElement) -> String {
    // SAFETY: the datum is a jsonb, as the function's declaration in SQL says; jsonb_out only reads it.
    let text: Option<CString> = unsafe { direct_function_call(pg_sys::jsonb_out, &[Some(argument.datum())]) };
    text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
