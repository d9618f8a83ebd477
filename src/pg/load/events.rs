//! The events of a reading thread, in the order in which every load takes them: the object is opened, its
//! batches follow, and the last event says what reading has cost.

use std::time::{Duration, Instant};

use super::known::Known;
use crate::error::{Error, Result};
use crate::load::pipeline::{Cost, LoadEvent, Opened};
use crate::load::windows::Windows;
use crate::pg::session::ffi::Thread;
use crate::s3::head::ObjectHead;
use crate::tuple::batch::EncodedBatch;

/// The first event of an object.
pub enum First {
    /// The version in S3 is loaded already, with options that give the same ticks.
    AlreadyLoaded(ObjectHead, Cost),
    /// The footer is read, and batches follow.
    Opened(Opened),
}

/// Takes the first event of an object, and checks the object's size against the registered one.
pub fn first(thread: &mut Thread<LoadEvent>, known: &Known) -> Result<First> {
    let first = match thread.next()? {
        Some(LoadEvent::AlreadyLoaded(head, cost)) => First::AlreadyLoaded(head, cost),
        Some(LoadEvent::Opened(opened)) => First::Opened(*opened),
        other => return Err(unexpected(other)),
    };
    let size = match &first {
        First::AlreadyLoaded(head, _) => head.size,
        First::Opened(opened) => opened.head.size,
    };
    known.check_registered_size(size)?;
    Ok(first)
}

/// What is known when all batches are stored.
pub struct Read {
    /// What reading has cost.
    pub cost: Cost,
    /// The time that storing has taken.
    pub storing: Duration,
    /// The vectors of slices that the thread has made.
    pub windows: Windows,
}

/// Passes the batches of an opened object to `store`.
pub fn batches(thread: &mut Thread<LoadEvent>, mut store: impl FnMut(&mut EncodedBatch) -> Result<()>) -> Result<Read> {
    let mut storing = Duration::ZERO;
    let mut windows = Windows::new();
    loop {
        match thread.next()? {
            Some(LoadEvent::Batch(mut batch)) => {
                let began = Instant::now();
                store(&mut batch)?;
                storing += began.elapsed();
            }
            Some(LoadEvent::Windows(made)) => windows = *made,
            Some(LoadEvent::Finished(cost)) => return Ok(Read { cost, storing, windows }),
            other => return Err(unexpected(other)),
        }
    }
}

/// Returns the error of an event that ends a load too early.
fn unexpected(event: Option<LoadEvent>) -> Error {
    match event {
        Some(LoadEvent::Failed(error)) => error,
        _ => Error::Internal { why: "the reading thread ended without a result".into() },
    }
}
