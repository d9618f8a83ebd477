//! Memory of tuples that are stored, for tuples to come: a page that is new from the system costs more than what is
//! written to it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Tuples;

/// Memory that waits to be used again. It goes back to the system with its owner, who makes the batches.
#[derive(Debug, Default)]
pub struct Spare(Arc<Mutex<Vec<Tuples>>>);

/// The way back to a [`Spare`], for as long as it lives.
#[derive(Debug, Default)]
pub struct Home(Weak<Mutex<Vec<Tuples>>>);

impl Spare {
    /// Some memory, with old tuples in it; none if none waits.
    pub fn take(&self) -> Tuples {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Where tuples in its memory go in the end.
    pub fn home(&self) -> Home {
        Home(Arc::downgrade(&self.0))
    }
}

impl Home {
    /// Brings memory back; frees it where nobody waits for it.
    pub fn bring(&self, tuples: Tuples) {
        if let Some(spare) = self.0.upgrade() {
            spare.lock().unwrap_or_else(PoisonError::into_inner).push(tuples);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::{TupleWriter, Value};

    fn written(memory: Tuples) -> Tuples {
        let mut writer = TupleWriter::with_capacity(memory, 1000, 128);
        writer.push(&[Value::Int8(7); 11]);
        writer.finish()
    }

    #[test]
    fn memory_that_comes_home_is_used_again_and_nothing_of_the_old_tuples_is_left() {
        let spare = Spare::default();
        let first = written(spare.take());
        let place = first.words(0).as_ptr();
        spare.home().bring(first);
        let second = written(spare.take());
        assert_eq!((second.words(0).as_ptr(), second.len()), (place, 1));
        assert!(spare.take().is_empty(), "there was only one");
    }

    #[test]
    fn nobody_keeps_memory_once_its_owner_is_gone() {
        let spare = Spare::default();
        let home = spare.home();
        drop(spare);
        home.bring(written(Tuples::default()));
        assert!(home.0.upgrade().is_none());
    }
}
