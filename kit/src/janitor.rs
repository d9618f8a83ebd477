//! Cleaning up after this process, however it ends.
//!
//! Rust drops no statics, and a killed process drops nothing at all, so nothing here relies on `Drop` alone. A
//! [`Janitor`] is a small shell that reads from a pipe whose other end only this process holds. The pipe closes when
//! the janitor is dropped or when the process is gone; either way the shell then does its one job. One path, so every
//! test run tests it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A job that is done when this value, or the process, goes away.
#[derive(Debug)]
pub struct Janitor {
    shell: Child,
}

impl Janitor {
    /// Starts a shell that runs `script` with `args` as `$1`, `$2` … once this value or the process is gone.
    pub fn new<A: AsRef<std::ffi::OsStr>>(script: &str, args: impl IntoIterator<Item = A>) -> io::Result<Self> {
        // The signals of a terminal go to its whole foreground group: the janitor must outlive the test they end. Its
        // output goes nowhere, because a program that reads our output would otherwise wait for the janitor, too.
        let script = format!("trap '' INT TERM HUP; read -r _; {script}");
        let shell = Command::new("sh")
            .args(["-c", &script, "janitor"])
            .args(args)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A fresh directory that is removed with everything in it when this value, or the process, goes away.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    _janitor: Janitor,
}

impl ScratchDir {
    /// Makes the directory under the system's temporary directory; its name begins with `prefix`.
    pub fn new(prefix: &str) -> io::Result<Self> {
        let path = fresh_dir(prefix)?;
        let janitor = Janitor::new(r#"rm -rf -- "$1""#, [&path])?;
        Ok(Self { path, _janitor: janitor })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a fresh directory that its caller removes.
pub fn fresh_dir(prefix: &str) -> io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix(prefix).tempdir()?.keep())
}
