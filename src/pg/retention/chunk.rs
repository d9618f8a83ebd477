//! A chunk that is to be dropped: its lock, and the drop itself.

use std::ffi::CString;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiClient;

use crate::error::{Error, Result};
use crate::pg::session::ffi::{self, Failure};
use crate::pg::session::spi;

/// Locks a chunk, by its quoted name, so that no other session reads or changes it. Returns `false` if one does. A
/// session that waits for this lock holds up all that come behind it, so it waits only for as long as autovacuum needs
/// to give way.
pub fn lock(client: &mut SpiClient<'_>, chunk: &str) -> Result<bool> {
    let before = ffi::setting(c"lock_timeout").and_then(|limit| CString::new(limit).ok());
    ffi::set_local(c"lock_timeout", c"3s");
    let lock = format!("LOCK TABLE ONLY {chunk} IN ACCESS EXCLUSIVE MODE");
    let locked = ffi::attempt::<_, Failure>(|| Ok(spi::execute(client, &lock, &[])?));
    ffi::set_local(c"lock_timeout", before.as_deref().unwrap_or(c"0"));
    match locked {
        Ok(_) => Ok(true),
        Err(failure) => failure.unless_cancelled().map(|_| false),
    }
}

/// Drops the one chunk of a hypertable or continuous aggregate that a range holds.
pub fn drop_one(client: &mut SpiClient<'_>, range: [DatumWithOid<'static>; 2], relation: &str) -> Result<()> {
    let [from, to] = range;
    let args = [from, to, relation.to_owned().into()];
    let statements: [String; 2] = spi::fetch(client, statement!("retention_drop"), &args)?;
    spi::execute(client, &statements[0], &[])?;
    match spi::execute(client, &statements[1], &[])? {
        1 => Ok(()),
        others => Err(Error::Internal { why: format!("drop_chunks would drop {others} chunks, not one") }),
    }
}
