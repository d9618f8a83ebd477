//! Free space of the file system under a path.

use std::ffi::CStr;

/// Bytes of a disk, without what only root may use.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// To be written.
    pub free: u64,
    /// Written.
    pub used: u64,
}

/// The disk that holds `path`.
pub fn disk(path: &CStr) -> Option<Disk> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a NUL-terminated path; the structure is written by the call.
    let code = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    // SAFETY: written when the call returned zero.
    let found = (code == 0).then(|| unsafe { found.assume_init() })?;
    let bytes = |blocks: u64| blocks * found.f_frsize;
    Some(Disk { free: bytes(found.f_bavail), used: bytes(found.f_blocks - found.f_bfree) })
}
