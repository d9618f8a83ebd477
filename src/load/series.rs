//! One object after another over one connection, for workers: small objects are fetched ahead while others are decoded,
//! so that the latency of S3 is paid once and not per object.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::background::Events;
use super::pipeline::{self, Job, LoadEvent};
use crate::error::{Error, Result};
use crate::s3::client::{Connection, connect};
use crate::s3::object::{Fetching, Reads};
use crate::tuple::spare::Spare;

/// Objects that may be on their way at once; together they take no more than one large one.
pub const AHEAD: usize = 8;

/// One object whose turn comes later.
struct Next {
    job: Job,
    reads: Reads,
    ahead: Option<Fetching>,
}

/// Loads objects in the order of their orders, until nobody gives orders any more. What goes wrong with one of them is
/// reported as [`LoadEvent::Failed`] and does not hold up the next.
pub fn run(mut orders: UnboundedReceiver<Job>, reads: &Reads, events: &Events<LoadEvent>) -> Result<()> {
    let mut connection: Option<Connection> = None;
    let mut queue: VecDeque<Next> = VecDeque::new();
    let mut spare = Spare::default();
    loop {
        while queue.len() < AHEAD {
            let job = match orders.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Empty) if queue.is_empty() => {
                    // Nobody knows for how long: what the last batches took goes back to the system.
                    spare = Spare::default();
                    match reads.wait(async { Ok(orders.recv().await) })? {
                        Some(job) => job,
                        None => return Ok(()),
                    }
                }
                Err(_) => break,
            };
            queue.push_back(Next { job, reads: reads.fresh(), ahead: None });
        }
        let outcome = connected(&mut connection, &queue, reads).and_then(|connection| {
            fetch_ahead(&mut queue, &connection);
            let Some(next) = queue.pop_front() else { return Ok(()) };
            pipeline::load(&next.job, &connection, next.ahead, &spare, &next.reads, events)
        });
        match outcome {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                if connection.is_none() {
                    queue.pop_front();
                }
                events.send(LoadEvent::Failed(error))?;
            }
        }
    }
}

/// The connection for the next object; a new one when the settings have changed.
fn connected(connection: &mut Option<Connection>, queue: &VecDeque<Next>, reads: &Reads) -> Result<Connection> {
    let Some(next) = queue.front() else { return Err(Error::Cancelled) };
    if let Some(standing) = connection.as_ref().filter(|standing| standing.settings == next.job.s3) {
        return Ok(standing.clone());
    }
    *connection = None;
    let made = reads.wait(connect(&next.job.s3))?;
    *connection = Some(made.clone());
    Ok(made)
}

/// Begins to fetch the small objects at the head of the queue, as many as one large object's share of memory holds.
fn fetch_ahead(queue: &mut VecDeque<Next>, connection: &Connection) {
    let mut left = queue.front().map_or(0, |next| next.job.limits.read_ahead());
    for next in queue.iter_mut() {
        let Some(size) = next.job.small().filter(|size| *size <= left) else { break };
        left -= size;
        let known = next.job.loaded_etag.is_some();
        if next.ahead.is_none() && !known && next.job.s3 == connection.settings {
            let head = next.job.listed.clone().unwrap_or_default();
            next.ahead = Some(Fetching::start(next.job.object(connection, head, &next.reads)));
        }
    }
}
