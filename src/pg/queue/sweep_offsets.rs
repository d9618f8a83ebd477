//! The offsets that the sweeps of this session have left. They follow the session's transactions: what a
//! transaction or a savepoint has left is forgotten with its rollback.

use std::cell::RefCell;

use crate::pg::load::late_offsets::LateOffsets;
use crate::pg::session::ffi::{self, SubtransactionEnd};

thread_local! {
    /// What committed transactions have left.
    static COMMITTED: RefCell<LateOffsets> = RefCell::default();
    /// What is left as the open transaction sees it, by the subtransaction that has changed it.
    static OPEN: RefCell<Vec<(u32, LateOffsets)>> = const { RefCell::new(Vec::new()) };
}

/// Returns what is left.
pub fn get() -> LateOffsets {
    OPEN.with_borrow(|open| open.last().map(|(_, offsets)| offsets.clone()))
        .unwrap_or_else(|| COMMITTED.with_borrow(Clone::clone))
}

/// Replaces what is left, if the current subtransaction commits.
pub fn set(offsets: LateOffsets) {
    ffi::at_subtransaction_ends(subtransaction_ended);
    ffi::at_transaction_ends(transaction_ended);
    let current = ffi::current_subtransaction();
    OPEN.with_borrow_mut(|open| {
        open.pop_if(|(changed_by, _)| *changed_by == current);
        open.push((current, offsets));
    });
}

fn transaction_ended(committed: bool) {
    if let Some((_, offsets)) = OPEN.take().pop()
        && committed
    {
        COMMITTED.set(offsets);
    }
}

fn subtransaction_ended(end: SubtransactionEnd) {
    OPEN.with_borrow_mut(|open| match end {
        SubtransactionEnd::Aborted { id } => open.retain(|(changed_by, _)| *changed_by != id),
        SubtransactionEnd::Committed { id, parent } => {
            if let Some((_, offsets)) = open.pop_if(|(changed_by, _)| *changed_by == id) {
                open.pop_if(|(changed_by, _)| *changed_by == parent);
                open.push((parent, offsets));
            }
        }
    });
}
