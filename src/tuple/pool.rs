//! A pool of tuple buffers. A batch whose tuples are stored leaves its memory to a later batch, because fresh pages
//! from the system cost more than writing to them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Tuples;

/// Free buffers. The encoder's thread owns the pool; when the pool is dropped, its memory goes back to the system.
#[derive(Debug, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Tuples>>>);

/// The handle by which a buffer comes back to its [`BufferPool`], if that still exists.
#[derive(Debug, Default)]
pub struct PoolHandle(Weak<Mutex<Vec<Tuples>>>);

impl BufferPool {
    /// Takes a free buffer, which still holds old tuples. Returns an empty one without memory if none is free.
    pub fn take(&self) -> Tuples {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Returns the handle by which a buffer comes back.
    pub fn handle(&self) -> PoolHandle {
        PoolHandle(Arc::downgrade(&self.0))
    }
}

impl PoolHandle {
    /// Puts a buffer back into the pool; frees it if the pool no longer exists.
    pub fn put_back(&self, tuples: Tuples) {
        if let Some(pool) = self.0.upgrade() {
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(tuples);
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
        let pool = BufferPool::default();
        let first = written(pool.take());
        let place = first.words(0).as_ptr();
        pool.handle().put_back(first);
        let second = written(pool.take());
        assert_eq!((second.words(0).as_ptr(), second.len()), (place, 1));
        assert!(pool.take().is_empty(), "there was only one");
    }

    #[test]
    fn a_buffer_is_freed_once_the_pool_is_gone() {
        let pool = BufferPool::default();
        let handle = pool.handle();
        drop(pool);
        handle.put_back(written(Tuples::default()));
        assert!(handle.0.upgrade().is_none());
    }
}
