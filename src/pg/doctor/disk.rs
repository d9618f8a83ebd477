//! Room on the disks that grow: the data directory's, the write-ahead log's, and those of the ticks' tablespaces.

use std::ffi::CString;

use pgrx::prelude::*;

use super::Check;
use crate::error::Result;
use crate::pg::session::{ffi, spi};

/// Less is not enough for a day of ticks.
const LEAST: u64 = 1 << 30;
/// Percent. Less fills up while nobody looks.
const LEAST_SHARE: u64 = 10;

/// One line per directory.
pub fn checks() -> Result<Vec<Check>> {
    let sql = statement!("doctor_disks");
    let found = Spi::connect_mut(|client| spi::json(client, sql, &[]))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    // A server process runs in the data directory.
    let mut places = vec![(".".to_owned(), "data directory".to_owned())];
    if std::fs::symlink_metadata("pg_wal").is_ok_and(|wal| wal.is_symlink()) {
        places.push(("pg_wal".to_owned(), "write-ahead log".to_owned()));
    }
    for tablespace in found.as_array().into_iter().flatten() {
        places.push((text(&tablespace["path"]), format!("tablespace {}", text(&tablespace["name"]))));
    }
    Ok(places.into_iter().map(|(path, name)| check(&path, &name)).collect())
}

fn check(path: &str, name: &str) -> Check {
    const NAME: &str = "free disk";
    let Some(disk) = ffi::disk(&CString::new(path).unwrap_or_default()) else {
        return Check::bad(NAME, format!("{name} cannot be read"), "Mount the directory again.");
    };
    // As df counts: what only root may use is nobody's.
    let share = disk.free * 100 / (disk.used + disk.free).max(1);
    let detail = format!("{name}: {:.1} GB, {share} %", disk.free as f64 / f64::from(1 << 30));
    if disk.free >= LEAST && share >= LEAST_SHARE {
        return Check::good(NAME, detail);
    }
    Check::bad(
        NAME,
        detail,
        "Make room: enlarge the disk; SELECT attach_tablespace('other', 'market_data.btc_ticks'); for new chunks; or compress or drop old chunks.",
    )
}
