//! Everything that is prepared before the first round.

use crate::data::{Day, SLICE_TICKS, Spread};
use crate::fixtures::{Backlog, FullChunk, LiveEdge, Orders};
use crate::format::{grouped, megabytes};
use crate::options::Options;
use crate::servers::Servers;

/// Everything that is prepared before the first round.
#[derive(Debug)]
pub struct Bench {
    /// The command line.
    pub options: Options,
    /// Cluster and S3 server.
    pub servers: Servers,
    /// The day.
    pub day: Day,
    /// The ticks of a backfill, if one is to be measured.
    pub spread: Option<Spread>,
    /// The uri of the day as an object of small row groups, if its load is to be measured.
    pub groups: Option<String>,
    /// The day in other orders, if their loads are to be measured.
    pub orders: Option<Orders>,
    /// The full chunk, if a slice is to be loaded into one.
    pub full_chunk: Option<FullChunk>,
    /// Slices that are registered one after another, if their arrival is to be measured.
    pub live_edge: Option<LiveEdge>,
    /// Slices that are registered all at once, if they are to be loaded.
    pub backlog: Option<Backlog>,
    /// The cluster with workers, which the live edge and the backlog need.
    pub workers: Option<Servers>,
    /// The cluster with the settings of the host's setup, if they are to be measured.
    pub tuned: Option<Servers>,
}

impl Bench {
    /// Describes the data, a line for each kind.
    pub fn describe(&self) -> Vec<String> {
        let Day { whole, object, slices, slices_bytes, .. } = &self.day;
        let mut lines = vec![format!(
            "Rounds: {}. Day: {} ticks of one UTC day, as one object of {} MB and as {} slices of {} MB together",
            self.options.runs,
            grouped(whole.ticks),
            megabytes(object.len() as u64),
            slices.len(),
            megabytes(*slices_bytes),
        )];
        if let Some(Spread { objects, bytes, sums, .. }) = &self.spread {
            lines.push(format!(
                "Many days: {} ticks over {} days, as {objects} hourly objects of {} MB together",
                grouped(sums.rows),
                self.options.days,
                megabytes(*bytes),
            ));
        }
        if self.full_chunk.is_some() {
            lines.push(format!(
                "Full chunk: {} ticks before the first slice of {}",
                grouped(self.options.full),
                grouped(SLICE_TICKS as u64),
            ));
        }
        if let Some(backlog) = &self.backlog {
            lines.push(format!(
                "Registered slices: {} ticks in {} objects",
                grouped(backlog.sums.rows),
                grouped(backlog.slices.len() as u64),
            ));
        }
        if !self.options.wants_all() {
            lines.push("Not every row: those that --only has named, and what they are compared with".into());
        }
        if self.options.wants_any(&["backfill-far", "groups-far"]) {
            lines.push(format!("Latency: {} ms more per request", self.options.latency_ms));
        }
        lines
    }
}
