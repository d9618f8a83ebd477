//! The comparison of some slices tick by tick.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgrx::spi::SpiClient;

use super::table::{Span, for_each_tick, spans};
use crate::error::{Error, Result};
use crate::load::compare::{self, Candidate, Entry, Group, SliceKey};
use crate::pg::session::ffi::Thread;
use crate::pg::session::guc;

/// A number of trade ids and the first ones of them.
#[derive(Debug, Default, Clone)]
pub struct Ids {
    /// How many there are.
    pub count: i64,
    /// The lowest ones, as many as are kept.
    pub first: BTreeSet<i64>,
}

impl Ids {
    fn add(&mut self, id: i64, most: usize) {
        self.count += 1;
        self.first.insert(id);
        if self.first.len() > most {
            self.first.pop_last();
        }
    }
}

/// How the ticks of a slice differ.
#[derive(Debug, Default, Clone)]
pub struct Differences {
    /// Ticks of objects that are not stored.
    pub missing: Ids,
    /// Stored ticks that no object holds.
    pub extra: Ids,
    /// Ticks that are stored with values that no object has for them.
    pub differing: Ids,
}

/// A slice that is to be compared.
pub struct Unequal {
    /// The slice.
    pub key: SliceKey,
    /// Its ticks in all objects.
    pub rows: i64,
    /// The numbers of the objects that hold them.
    pub objects: Vec<usize>,
}

/// Compares slices tick by tick, as many at once as fit into an eighth of `memory`. Keeps the first `most` ids of each
/// kind.
pub fn compare(
    client: &SpiClient<'_>,
    candidates: &[Candidate],
    slices: &[Unequal],
    memory: u64,
    most: usize,
) -> Result<BTreeMap<SliceKey, Differences>> {
    let mut found = BTreeMap::new();
    let fits = (memory / 8 / size_of::<Entry>() as u64) as i64;
    let mut rest = slices;
    while let Some(first) = rest.first() {
        let mut rows = first.rows;
        let more = rest[1..].iter().take_while(|slice| {
            rows += slice.rows;
            rows <= fits
        });
        let (together, others) = rest.split_at(1 + more.count());
        rest = others;
        let parts = if together.len() == 1 { first.rows / fits + 1 } else { 1 };
        for part in 0..parts {
            let numbers = together.iter().zip(0..).map(|(slice, number)| (slice.key.clone(), number)).collect();
            let group = Group { slices: numbers, parts, part };
            let differences = compare_group(client, &chosen(candidates, together), &group, most)?;
            for (slice, differences) in together.iter().zip(differences) {
                merge(found.entry(slice.key.clone()).or_default(), differences, most);
            }
        }
    }
    Ok(found)
}

/// Returns the objects that hold ticks of these slices.
fn chosen(candidates: &[Candidate], slices: &[Unequal]) -> Vec<Candidate> {
    let numbers: BTreeSet<usize> = slices.iter().flat_map(|slice| slice.objects.iter().copied()).collect();
    numbers.into_iter().map(|number| candidates[number].clone()).collect()
}

fn merge(all: &mut Differences, part: Differences, most: usize) {
    for (all, part) in
        [(&mut all.missing, part.missing), (&mut all.extra, part.extra), (&mut all.differing, part.differing)]
    {
        all.count += part.count;
        all.first.extend(part.first);
        while all.first.len() > most {
            all.first.pop_last();
        }
    }
}

fn compare_group(
    client: &SpiClient<'_>,
    candidates: &[Candidate],
    group: &Group,
    most: usize,
) -> Result<Vec<Differences>> {
    let entries = if candidates.is_empty() { Vec::new() } else { read(candidates, group)? };
    let mut seen = vec![false; entries.len()];
    let mut found = vec![Differences::default(); group.slices.len()];
    let mut buffer = Vec::new();
    let keys: BTreeSet<&SliceKey> = group.slices.keys().collect();
    for span in spans(keys) {
        let known = by_bucket(group, &span);
        for_each_tick(client, &span, |bucket, tick| {
            let number = known.get(&bucket).and_then(|slices| slices.get(tick.symbol)).copied();
            let ours = tick.trade_id.rem_euclid(group.parts) == group.part;
            let Some(slice) = number.filter(|_| ours) else { return Ok(()) };
            let place = (slice, tick.trade_id);
            let start = entries.partition_point(|entry| (entry.slice, entry.trade_id) < place);
            let same = entries[start..].iter().take_while(|entry| (entry.slice, entry.trade_id) == place).count();
            let differences = &mut found[slice as usize];
            if same == 0 {
                differences.extra.add(tick.trade_id, most);
                return Ok(());
            }
            seen[start..start + same].fill(true);
            let digest = tick.digest(&mut buffer);
            if entries[start..start + same].iter().all(|entry| entry.digest != digest) {
                differences.differing.add(tick.trade_id, most);
            }
            Ok(())
        })?;
    }
    let mut last = None;
    for (entry, _) in entries.iter().zip(seen).filter(|(_, seen)| !seen) {
        // Objects may have several values for one id.
        if last.replace((entry.slice, entry.trade_id)) != Some((entry.slice, entry.trade_id)) {
            found[entry.slice as usize].missing.add(entry.trade_id, most);
        }
    }
    Ok(found)
}

/// Returns the group's numbers of the slices in a span, so that a tick's slice is found without a copy of its symbol.
fn by_bucket<'a>(group: &'a Group, span: &Span) -> HashMap<i64, HashMap<&'a [u8], u32>> {
    let mut known: HashMap<i64, HashMap<&[u8], u32>> = HashMap::new();
    for ((bucket, asset), number) in &group.slices {
        if span.buckets.contains(bucket) {
            known.entry(*bucket).or_default().insert(asset.as_bytes(), *number);
        }
    }
    known
}

fn read(candidates: &[Candidate], group: &Group) -> Result<Vec<Entry>> {
    let (candidates, group, s3) = (candidates.to_vec(), group.clone(), guc::s3());
    let mut thread = Thread::start(1, move |io, events| compare::collect(&candidates, &group, &s3, io, events))?;
    thread.next()?.ok_or_else(|| Error::Internal { why: "the reading thread ended without a result".into() })
}
