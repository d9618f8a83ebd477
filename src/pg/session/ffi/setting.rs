//! A setting whose value is checked when it is set.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::model::time_range::parse_min_time;

/// Defines a setting that holds a date or a time. PostgreSQL refuses any other value when it is set.
pub fn define_time(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    context: GucContext,
) {
    // SAFETY: the hook is guarded, so no panic leaves it. `_PG_init`, which calls this, may define settings.
    unsafe {
        let (no_text, check) = (c"", Some(is_time as _));
        GucRegistry::define_string_guc_with_hooks(
            name,
            description,
            no_text,
            setting,
            context,
            GucFlags::empty(),
            check,
            None,
            None,
        );
    }
}

/// Returns whether the new value is a time. PostgreSQL calls it before it takes the value.
#[pg_guard]
unsafe extern "C-unwind" fn is_time(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL passes the place of a text, which is null if there is none.
    let text = unsafe { value.as_ref().filter(|text| !text.is_null()).map(|text| CStr::from_ptr(*text)) };
    text.is_none_or(|text| text.to_str().is_ok_and(|text| parse_min_time(text).is_ok()))
}
