//! The objects' half of a comparison with the table: sums per slice over many objects, and the ticks of some slices.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::background::Events;
use super::pipeline::{Job, open_ticks};
use crate::error::{Error, Result};
use crate::model::digest::{CanonicalTick, TickSums};
use crate::model::tick::{NO_TIME, Symbols, TickBatch};
use crate::s3::client::{Connection, connect};
use crate::s3::config::S3Settings;
use crate::s3::reads::Io;

/// A slice by bucket (microseconds since 1970) and asset.
pub type SliceKey = (i64, Arc<str>);

/// The bytes that one slice takes in the maps of a comparison.
const SLICE_BYTES: u64 = 256;

/// An object that is to be compared.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// How it is read. The version in S3 is read, whichever is loaded.
    pub job: Job,
    /// The version that was loaded, if one was.
    pub etag: Option<String>,
}

/// Which ticks of the objects are compared.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only ticks of this asset.
    pub asset: Option<String>,
    /// Only ticks of these buckets, in microseconds since 1970.
    pub buckets: Option<Range<i64>>,
}

impl Scope {
    fn holds(&self, bucket: i64, symbol: &str) -> bool {
        self.asset.as_ref().is_none_or(|asset| asset == symbol)
            && self.buckets.as_ref().is_none_or(|buckets| buckets.contains(&bucket))
    }
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectState {
    /// Its ticks were read.
    Read,
    /// There is no such object any more.
    Gone,
    /// S3 has another version than the loaded one: this etag.
    Replaced(String),
    /// The object cannot be read as ticks.
    Unreadable(Error),
}

/// The ticks of a slice in all objects.
#[derive(Debug, Clone, Default)]
pub struct ObjectSums {
    /// The sum over all objects.
    pub total: TickSums,
    /// The sums of the first object that holds ticks of the slice.
    pub first: TickSums,
    /// Whether all objects have the same sums as the first.
    pub alike: bool,
    /// The numbers of the objects that hold ticks of the slice, in ascending order.
    pub objects: Vec<usize>,
}

/// The sums of all objects.
#[derive(Debug, Default)]
pub struct Summed {
    /// Per slice.
    pub slices: BTreeMap<SliceKey, ObjectSums>,
    /// Per object.
    pub states: Vec<ObjectState>,
}

/// Sums up the ticks of each slice, over all objects. This is the work of a `Background` thread.
pub fn sum(
    candidates: &[Candidate],
    scope: &Scope,
    s3: &S3Settings,
    memory: u64,
    io: &Io,
    events: &Events<Summed>,
) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    let mut summed = Summed::default();
    for (number, candidate) in candidates.iter().enumerate() {
        let mut own = OwnSums::default();
        let state = read(candidate, &connection, io, |batch, symbols| {
            own.add(batch, symbols, scope);
            must_fit(own.slices.len() + summed.slices.len(), memory)
        })?;
        if state == ObjectState::Read {
            own.slices.into_iter().for_each(|(key, sums)| summed.add(number, key, sums));
        }
        summed.states.push(state);
    }
    events.send(summed)
}

/// Returns how many slices fit into an eighth of the memory.
pub fn slices_that_fit(memory: u64) -> i64 {
    (memory / 8 / SLICE_BYTES) as i64
}

/// Refuses more slices than fit into an eighth of the memory.
pub fn must_fit(slices: usize, memory: u64) -> Result<()> {
    let (needed, limit) = (slices as u64 * SLICE_BYTES, memory / 8);
    if needed <= limit {
        return Ok(());
    }
    let what = format!("the comparison of {slices} slices or more");
    Err(Error::TooLarge { what, needed, limit, suffices: None })
}

impl Summed {
    fn add(&mut self, object: usize, key: SliceKey, sums: TickSums) {
        let slice = self.slices.entry(key).or_default();
        if slice.objects.is_empty() {
            (slice.first, slice.alike) = (sums, true);
        }
        slice.alike &= slice.first == sums;
        slice.total.absorb(&sums);
        slice.objects.push(object);
    }
}

/// The sums of one object.
#[derive(Default)]
struct OwnSums {
    slices: HashMap<SliceKey, TickSums>,
    buffer: Vec<u8>,
}

impl OwnSums {
    fn add(&mut self, batch: &TickBatch, symbols: &Symbols, scope: &Scope) {
        let mut at = 0;
        while at < batch.len() {
            let (bucket, symbol, _) = batch.key(at);
            let same = |index: &usize| {
                let key = batch.key(*index);
                (key.0, key.1) == (bucket, symbol)
            };
            // Ticks of one slice usually follow one another, so the map is asked once for many of them.
            let run = (at..batch.len()).take_while(same).count();
            let name = &symbols.names()[symbol as usize];
            if scope.holds(bucket, name) {
                let sums = self.slices.entry((bucket, name.clone())).or_default();
                for index in at..at + run {
                    let tick = canonical(batch, index, name);
                    sums.add(&tick, tick.digest(&mut self.buffer));
                }
            }
            at += run;
        }
    }
}

/// The slices that are compared tick by tick, or a part of one slice.
#[derive(Debug, Clone)]
pub struct Group {
    /// The slices, each with its number in the group.
    pub slices: HashMap<SliceKey, u32>,
    /// Only trade ids whose remainder modulo `parts` is `part`.
    pub parts: i64,
    /// See `parts`.
    pub part: i64,
}

impl Group {
    /// Returns the number of a tick's slice, if the tick belongs to the group.
    pub fn number(&self, key: &SliceKey, trade_id: i64) -> Option<u32> {
        (trade_id.rem_euclid(self.parts) == self.part).then(|| self.slices.get(key).copied()).flatten()
    }
}

/// A tick of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The number of its slice in the group.
    pub slice: u32,
    /// Its trade id.
    pub trade_id: i64,
    /// Its digest.
    pub digest: u128,
}

/// Collects the ticks of a group from all objects, sorted and each once. This is the work of a `Background` thread.
pub fn collect(
    candidates: &[Candidate],
    group: &Group,
    s3: &S3Settings,
    io: &Io,
    events: &Events<Vec<Entry>>,
) -> Result<()> {
    let connection = io.wait(connect(s3))?;
    let mut entries = Vec::new();
    let mut buffer = Vec::new();
    for candidate in candidates {
        let state = read(candidate, &connection, io, |batch, symbols| {
            for index in 0..batch.len() {
                let (bucket, symbol, trade_id) = batch.key(index);
                let name = &symbols.names()[symbol as usize];
                if let Some(slice) = group.number(&(bucket, name.clone()), trade_id) {
                    let digest = canonical(batch, index, name).digest(&mut buffer);
                    entries.push(Entry { slice, trade_id, digest });
                }
            }
            Ok(())
        })?;
        if state != ObjectState::Read {
            return Err(Error::ObjectChanged {
                expected: candidate.etag.clone().unwrap_or_default(),
                found: "another version, or none".into(),
            });
        }
    }
    entries.sort_unstable();
    entries.dedup();
    events.send(entries)
}

/// Passes the ticks of an object to `take`. An error that another attempt may not have, or that `take` returns, ends
/// the comparison; any other one is the state of a loaded object.
fn read(
    candidate: &Candidate,
    connection: &Connection,
    io: &Io,
    mut take: impl FnMut(&TickBatch, &Symbols) -> Result<()>,
) -> Result<ObjectState> {
    let mut taken = Ok(());
    match read_object(candidate, connection, io, |batch, symbols| {
        taken = take(batch, symbols);
        taken.clone()
    }) {
        Ok(state) => Ok(state),
        Err(error) if taken.is_err() || error.is_transient() || candidate.etag.is_none() => Err(error),
        Err(Error::NoSuchKey { .. }) => Ok(ObjectState::Gone),
        Err(error) => Ok(ObjectState::Unreadable(error)),
    }
}

fn read_object(
    candidate: &Candidate,
    connection: &Connection,
    io: &Io,
    mut take: impl FnMut(&TickBatch, &Symbols) -> Result<()>,
) -> Result<ObjectState> {
    let (head, mut reader) = open_ticks(&candidate.job, connection, io)?;
    if candidate.etag.as_ref().is_some_and(|loaded| *loaded != head.etag) {
        return Ok(ObjectState::Replaced(head.etag));
    }
    let mut symbols = Symbols::default();
    let cancelled = || io.cancel.is_cancelled();
    while let Some(decoded) = reader.next(&mut symbols, &cancelled)? {
        take(&decoded.ticks, &symbols)?;
    }
    Ok(ObjectState::Read)
}

fn canonical<'a>(batch: &'a TickBatch, index: usize, symbol: &'a str) -> CanonicalTick<'a> {
    CanonicalTick {
        symbol: symbol.as_bytes(),
        trade_id: batch.trade_id[index],
        event_time: batch.event_time[index],
        trade_time: Some(batch.trade_time[index]).filter(|time| *time != NO_TIME),
        price: Some(batch.price[index]),
        quantity: Some(batch.quantity[index]),
        buyer_order_id: batch.buyer_order_id.as_ref().and_then(|column| column.get(index)),
        seller_order_id: batch.seller_order_id.as_ref().and_then(|column| column.get(index)),
        is_market_maker: batch.is_market_maker[index],
    }
}
