//! Transactions of a background worker.

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::ffi;
use super::target::Target;
use crate::error::Result;

/// Runs `work` in a transaction of its own with the privileges of the tables' owner, so that triggers and
/// defaults of the tables run with those privileges only. An error that `work` returns rolls the
/// transaction back and is returned. An error that PostgreSQL raises unwinds to [`ffi::survive`].
pub fn tx<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> Result<T> {
    tx_with_target(|client, _| work(client))
}

/// Does the same as [`tx`] for work that needs to know its tables.
pub fn tx_with_target<T>(work: impl FnOnce(&mut SpiClient<'_>, &Target) -> Result<T>) -> Result<T> {
    tx_as_superuser(|client| {
        let target = Target::check(client)?;
        let _owner = target.become_owner();
        work(client, &target)
    })
}

/// Does the same as [`tx`] with a commit that waits for no standby, for a process that must end.
pub fn tx_without_standby<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> Result<T> {
    tx_as_superuser(|client| {
        // It must still hold at the commit, so it is set before the owner's part, which ends what is set in it.
        ffi::set_local(c"synchronous_commit", c"local");
        let target = Target::check(client)?;
        let _owner = target.become_owner();
        work(client)
    })
}

/// Runs `work` in a transaction of its own with superuser privileges, for what the tables' owner may not
/// do. No code that belongs to the tables' owner may run in it.
pub fn tx_as_superuser<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> Result<T> {
    ffi::transaction(|| Spi::connect_mut(|client| work(client)))
}
