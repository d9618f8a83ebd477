//! Whether loads keep the ledger. They always do, but for measurements of what it costs: only a build for them, with
//! the feature `bench`, can turn it off.

#[cfg(feature = "bench")]
static OFF: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Turns the ledger of this process on or off.
#[cfg(feature = "bench")]
pub fn turn(on: bool) {
    OFF.store(!on, std::sync::atomic::Ordering::Relaxed);
}

/// Returns whether loads of this process keep the ledger.
#[cfg(feature = "bench")]
#[inline]
pub fn is_on() -> bool {
    !OFF.load(std::sync::atomic::Ordering::Relaxed)
}

/// Returns whether loads keep the ledger.
#[cfg(not(feature = "bench"))]
#[inline]
pub const fn is_on() -> bool {
    true
}
