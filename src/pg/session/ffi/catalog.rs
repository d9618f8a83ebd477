//! A version number of the system catalogs as this process knows them.

use std::ffi::c_int;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::prelude::*;

/// How often this process was told of a change of a catalog.
static CHANGES: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// Returns a number that changes whenever PostgreSQL invalidates what this process knows of a relation,
/// function, role, schema, type, operator or constraint: after another session's commit as well as within
/// this transaction. TimescaleDB invalidates a relation when it changes what it knows of a hypertable, a
/// dimension, a continuous aggregate or an existing chunk.
///
/// A caller that remembers something of the catalogs calls this before it reads them, and again before it
/// uses what it remembers.
pub fn catalog_version() -> u64 {
    WATCH.call_once(|| {
        // SAFETY: the callback is a guarded function that is never unloaded, and it is registered once.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0)) };
        for cache in [
            pg_sys::SysCacheIdentifier::PROCOID,
            pg_sys::SysCacheIdentifier::AUTHOID,
            pg_sys::SysCacheIdentifier::NAMESPACEOID,
            pg_sys::SysCacheIdentifier::TYPEOID,
            pg_sys::SysCacheIdentifier::OPEROID,
            pg_sys::SysCacheIdentifier::CONSTROID,
        ] {
            // SAFETY: the cache is one of PostgreSQL 15's; the callback is a guarded function that is never unloaded.
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(cache as c_int, Some(object_changed), pg_sys::Datum::from(0))
            };
        }
    });
    CHANGES.load(Ordering::Relaxed)
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, _relation: pg_sys::Oid) {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

#[pg_guard]
unsafe extern "C-unwind" fn object_changed(_arg: pg_sys::Datum, _cache: c_int, _hash: u32) {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}
