//! A pool of tuple buffers. A batch whose tuples are stored leaves its memory to a later batch, because fresh pages
//! from the system cost more than writing to them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Tuples;

/// Free buffers. The encoder's thread owns the pool; when the pool is dropped, its memory goes back to the system.
#[derive(Debug, Default)]
pub struct Spare(Arc<Mutex<Vec<Tuples>>>);

/// The handle by which a buffer comes back to its [`Spare`], if that still exists.
#[derive(Debug, Default)]
pub struct Home(Weak<Mutex<Vec<Tuples>>>);

impl Spare {
    /// Takes a free buffer, which still holds old tuples. Returns an empty one without memory if none is free.
    pub fn take(&self) -> Tuples {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Returns the handle by which a buffer comes back.
    pub fn home(&self) -> Home {
        Home(Arc::downgrade(&self.0))
    }
}

impl Home {
    /// Puts a buffer back into the pool; frees it if the pool no longer exists.
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
    fn a_buffer_that_was_put_back_is_used_again_without_its_old_tuples() {
        let spare = Spare::default();
        let first = written(spare.take());
        let place = first.words(0).as_ptr();
        spare.home().bring(first);
        let second = written(spare.take());
        assert_eq!((second.words(0).as_ptr(), second.len()), (place, 1));
        assert!(spare.take().is_empty(), "there was only one");
    }

    #[test]
    fn a_buffer_is_freed_once_the_pool_is_gone() {
        let spare = Spare::default();
        let home = spare.home();
        drop(spare);
        home.bring(written(Tuples::default()));
        assert!(home.0.upgrade().is_none());
    }
}
