//! Several objects read over one connection, for workers. Small objects are prefetched while another one is decoded, so
//! that S3's latency is paid once and not per object.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::background::Events;
use super::pipeline::{self, Job, LoadEvent};
use crate::error::{Error, Result};
use crate::s3::client::{Connection, connect};
use crate::s3::config::S3Settings;
use crate::s3::object::Fetching;
use crate::s3::reads::Io;
use crate::tuple::pool::BufferPool;

/// The most objects that may be prefetched at once. Together they take no more memory than one large object.
pub const MAX_PREFETCHED: usize = 8;

/// An object that waits to be loaded.
struct Next {
    job: Job,
    io: Io,
    prefetched: Option<Fetching>,
}

/// Loads objects in the order of `jobs` until its sender is dropped. An object's error is reported as
/// [`LoadEvent::Failed`], and the next object follows.
pub fn run(mut jobs: UnboundedReceiver<Job>, io: &Io, events: &Events<LoadEvent>) -> Result<()> {
    let mut connection: Option<Connection> = None;
    let mut queue: VecDeque<Next> = VecDeque::new();
    let mut pool = BufferPool::default();
    while refill(&mut queue, &mut jobs, &mut pool, io)? {
        match load_next(&mut connection, &mut queue, &pool, io, events) {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => events.send(LoadEvent::Failed(error))?,
        }
    }
    Ok(())
}

/// Fills the queue with the jobs that have arrived, and waits for one if the queue is empty. Returns `false` if the
/// queue is empty and no further job can come.
fn refill(
    queue: &mut VecDeque<Next>,
    jobs: &mut UnboundedReceiver<Job>,
    pool: &mut BufferPool,
    io: &Io,
) -> Result<bool> {
    while queue.len() < MAX_PREFETCHED {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) if queue.is_empty() => {
                // The wait may be long, so the memory of the last batches goes back to the system.
                *pool = BufferPool::default();
                let Some(job) = io.wait(async { Ok(jobs.recv().await) })? else { return Ok(false) };
                job
            }
            Err(_) => break,
        };
        queue.push_back(Next { job, io: io.fresh(), prefetched: None });
    }
    Ok(!queue.is_empty())
}

/// Takes the next object from the queue and loads it. The objects behind it are prefetched meanwhile.
fn load_next(
    connection: &mut Option<Connection>,
    queue: &mut VecDeque<Next>,
    pool: &BufferPool,
    io: &Io,
    events: &Events<LoadEvent>,
) -> Result<()> {
    let Some(next) = queue.front() else { return Ok(()) };
    let connected = connected(connection, &next.job.s3, io);
    if let Ok(connection) = &connected {
        prefetch(queue, connection);
    }
    let Some(next) = queue.pop_front() else { return Ok(()) };
    pipeline::load(&next.job, &connected?, next.prefetched, pool, &next.io, events)
}

/// Returns the connection for these settings; makes a new one if the settings have changed.
fn connected(connection: &mut Option<Connection>, settings: &S3Settings, io: &Io) -> Result<Connection> {
    if let Some(standing) = connection.as_ref().filter(|standing| standing.settings == *settings) {
        return Ok(standing.clone());
    }
    *connection = None;
    let made = io.wait(connect(settings))?;
    *connection = Some(made.clone());
    Ok(made)
}

/// Starts to fetch the small objects at the head of the queue, as many as fit into one large object's share of memory.
fn prefetch(queue: &mut VecDeque<Next>, connection: &Connection) {
    let mut left = queue.front().map_or(0, |next| next.job.limits.prefetch_bytes());
    for next in queue.iter_mut() {
        let Some(size) = next.job.small().filter(|size| *size <= left) else { break };
        left -= size;
        let known = next.job.loaded_etag.is_some();
        if next.prefetched.is_none() && !known && next.job.s3 == connection.settings {
            let head = next.job.listed.clone().unwrap_or_default();
            next.prefetched = Some(Fetching::start(next.job.object(connection, head, &next.io)));
        }
    }
}
