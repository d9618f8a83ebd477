//! Free space on the disks that grow: those of the data directory, the write-ahead log and the tablespaces of
//! the ticks.

use std::ffi::CString;

use pgrx::prelude::*;
use serde::Deserialize;

use super::check::{Check, Hint};
use crate::error::Result;
use crate::pg::session::{ffi, spi};

/// Bytes. Less is not enough for a day of ticks.
const LEAST: u64 = 1 << 30;
/// Percent. Less fills up before an administrator notices.
const LEAST_SHARE: u64 = 10;

/// A tablespace that holds ticks or will hold them (`doctor_disks.sql`).
#[derive(Deserialize)]
struct Tablespace {
    /// The path by which a server process reaches it.
    path: String,
    name: String,
}

/// Checks each directory.
pub fn checks() -> Result<Vec<Check>> {
    let tablespaces: Vec<Tablespace> =
        Spi::connect_mut(|client| spi::fetch_kept(client, statement!("doctor_disks"), &[]))?;
    // A server process runs in the data directory.
    let mut checks = vec![check(".", "data directory")];
    if std::fs::symlink_metadata("pg_wal").is_ok_and(|wal| wal.is_symlink()) {
        checks.push(check("pg_wal", "write-ahead log"));
    }
    for Tablespace { path, name } in tablespaces {
        checks.push(check(&path, &format!("tablespace {name}")));
    }
    Ok(checks)
}

fn check(path: &str, name: &str) -> Check {
    const NAME: &str = "free disk";
    let Some(disk) = ffi::disk(&CString::new(path).unwrap_or_default()) else {
        return Check::bad(NAME, format!("{name} cannot be read"), Hint::know("Mount the directory again."));
    };
    // The share of the space that PostgreSQL can use, as df counts it: space that is reserved for root is
    // left out.
    let share = disk.free * 100 / (disk.used + disk.free).max(1);
    let detail = format!("{name}: {:.1} GB, {share} %", disk.free as f64 / f64::from(1 << 30));
    if disk.free >= LEAST && share >= LEAST_SHARE {
        return Check::good(NAME, detail);
    }
    let hint = "Make room: enlarge the disk; or SELECT attach_tablespace('other', 'market_data.btc_ticks'); for new \
                chunks; or compress or drop old chunks.";
    Check::bad(NAME, detail, Hint::know(hint))
}
