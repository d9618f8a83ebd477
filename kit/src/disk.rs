//! A disk that is as small as a test wants it, and larger later on.

use std::path::Path;
use std::process::Command;

use crate::command::{OS_USER, is_root, run};
use crate::janitor::{Janitor, fresh_dir};

/// A file system in memory that the server may write to. It goes when this value or the process goes.
#[derive(Debug)]
pub struct SmallDisk {
    path: std::path::PathBuf,
    _janitor: Janitor,
}

impl SmallDisk {
    /// Mounts a disk of this size in mount's notation, e.g. `4m`. Returns `None` and prints one line where mounting is
    /// not allowed.
    pub fn mount(size: &str) -> Option<SmallDisk> {
        let path = fresh_dir("btc_ingest-disk-").expect("a temporary directory");
        let janitor = Janitor::new(r#"umount -l -- "$1"; rmdir -- "$1""#, [&path]).expect("a shell to clean up with");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
        if !is_root() || run(&mut mount).is_err() {
            println!("skipped: nothing may be mounted here");
            return None;
        }
        run(Command::new("chown").arg(format!("{OS_USER}:{OS_USER}")).arg(&path)).expect("our own directory");
        Some(SmallDisk { path, _janitor: janitor })
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it larger, with all that is on it.
    pub fn resize(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.path)).expect("our own disk");
    }
}
