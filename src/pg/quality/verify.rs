//! `verify` and `verify_range`: compares objects in S3 with the table. First by sums per slice, in one pass over both
//! sides at the same time; then, tick by tick, the slices whose sums differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::objects::{Loaded, Objects, loaded};
use super::table::{Span, TableSums, spans};
use super::ticks::{self, Differences, Unequal};
use crate::error::{Error, Result};
use crate::load::compare::{self, ObjectSums, Scope, SliceKey, Summed};
use crate::model::bucket::{BUCKET_US, END_TIME_US, MIN_TIME_US, POSTGRES_EPOCH_US, bucket_of};
use crate::model::digest::TickSums;
use crate::pg::load::plan::allowed_uri;
use crate::pg::session::ffi::Thread;
use crate::pg::session::target::Target;
use crate::pg::session::time::timestamp;
use crate::pg::session::{guc, spi};

/// The most ids of one kind that a call may ask for.
const MOST_IDS: i32 = 10_000;

/// What the comparison of a slice has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The table holds exactly the objects' ticks.
    Equal,
    /// It does not.
    Different,
    /// An object of the slice could not be compared, and the others show no difference.
    Unproven,
}

impl Outcome {
    /// Returns the word in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Equal => "equal",
            Outcome::Different => "different",
            Outcome::Unproven => "unproven",
        }
    }
}

/// The result for one slice.
pub struct Verified {
    /// The asset.
    pub asset: String,
    /// The start of the bucket.
    pub bucket: TimestampWithTimeZone,
    /// What was found.
    pub outcome: Outcome,
    /// Sums over the objects' ticks.
    pub objects: TickSums,
    /// Sums over the stored ticks.
    pub table: TickSums,
    /// The differences by tick.
    pub differences: Differences,
    /// Whether stored ticks that no object holds were looked for.
    pub extra_known: bool,
    /// Why an object could not be compared.
    pub problem: Option<String>,
}

/// Compares one object with the table.
pub fn verify(uri: &str, most: i32) -> Result<Vec<Verified>> {
    let uri = allowed_uri(uri)?;
    let most = checked(most)?;
    read_as_owner(|client| {
        let found = loaded(client, &uri)?;
        let objects = Objects::one(client, &uri, found)?;
        let known = objects.known_slices();
        compare_all(client, &objects, Scope::default(), &spans(&known), most)
    })
}

/// Compares all slices of an asset whose buckets lie in a range.
pub fn verify_range(
    asset: &str,
    from: TimestampWithTimeZone,
    to: TimestampWithTimeZone,
    most: i32,
) -> Result<Vec<Verified>> {
    let (buckets, most) = (checked_range(asset, from, to)?, checked(most)?);
    read_as_owner(|client| compare_range(client, asset, &buckets, most))
}

/// Compares the slices of an asset in these buckets, with the privileges of the tables' owner.
pub fn compare_range(
    client: &mut SpiClient<'_>,
    asset: &str,
    buckets: &Range<i64>,
    most: usize,
) -> Result<Vec<Verified>> {
    let args = [asset.to_owned().into(), timestamp(buckets.start)?.into(), timestamp(buckets.end)?.into()];
    let found: Vec<Loaded> = spi::fetch_in_snapshot(client, statement!("verify_range"), &args)?;
    let objects = Objects::all(client, found)?;
    let span = Span { buckets: buckets.clone(), assets: BTreeSet::from([Arc::from(asset)]) };
    let scope = Scope { asset: Some(asset.to_owned()), buckets: Some(buckets.clone()) };
    compare_all(client, &objects, scope, &[span], most)
}

/// Checks how many ids a caller asks for.
pub fn checked(most: i32) -> Result<usize> {
    let why = || format!("must be from 0 to {MOST_IDS}");
    let most = usize::try_from(most).ok().filter(|_| most <= MOST_IDS);
    most.ok_or_else(|| Error::InvalidOption { key: "most".into(), why: why() })
}

/// Checks an asset and a range of times, and returns the buckets of the range.
pub fn checked_range(asset: &str, from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<Range<i64>> {
    let wrong = |key: &str, why: &str| Error::InvalidOption { key: key.into(), why: why.into() };
    if asset.is_empty() {
        return Err(wrong("asset", "must be the symbol, e.g. BTCUSDT"));
    }
    let buckets = buckets(from, to);
    if buckets.is_empty() {
        return Err(wrong("to", "must be later than \"from\""));
    }
    Ok(buckets)
}

/// Returns the buckets from the one of `from` until `to`, in microseconds since 1970. Infinity stands for no limit.
fn buckets(from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Range<i64> {
    let us = |time: TimestampWithTimeZone| {
        i64::from(time).saturating_add(POSTGRES_EPOCH_US).clamp(MIN_TIME_US + BUCKET_US, END_TIME_US - BUCKET_US)
    };
    bucket_of(us(from))..bucket_of(us(to) + BUCKET_US - 1)
}

/// Runs `work` with the privileges of the tables' owner. It only reads, so it may run in a read-only transaction.
pub fn read_as_owner<T>(work: impl FnOnce(&mut SpiClient<'_>) -> Result<T>) -> Result<T> {
    Spi::connect_mut(|client| {
        let target = Target::check_catalogs(client)?;
        let _owner = target.become_owner();
        Target::check_version(client)?;
        work(client)
    })
}

/// Compares objects with the table. The stored ticks of `expected` are summed up while a thread reads the objects.
fn compare_all(
    client: &SpiClient<'_>,
    objects: &Objects,
    scope: Scope,
    expected: &[Span],
    most: usize,
) -> Result<Vec<Verified>> {
    let memory = guc::limits().memory;
    let in_range = scope.asset.is_some();
    let (candidates, s3) = (objects.candidates.clone(), guc::s3());
    let mut thread: Thread<Summed> =
        Thread::start(1, move |io, events| compare::sum(&candidates, &scope, &s3, memory, io, events))?;
    let mut table = TableSums::new(memory);
    expected.iter().try_for_each(|span| table.add(client, span, &|_| true))?;
    let ended = || Error::Internal { why: "the reading thread ended without a result".into() };
    let mut summed = thread.next()?.ok_or_else(ended)?;
    let covered =
        |key: &SliceKey| expected.iter().any(|span| span.buckets.contains(&key.0) && span.assets.contains(&key.1));
    let others: BTreeSet<&SliceKey> = summed.slices.keys().filter(|key| !covered(key)).collect();
    let wanted = |key: &SliceKey| others.contains(key);
    spans(others.iter().copied()).iter().try_for_each(|span| table.add(client, span, &wanted))?;
    let table = table.into_slices();

    let problems = objects.problems(&summed.states);
    let mut keys: BTreeSet<SliceKey> = summed.slices.keys().chain(problems.keys()).cloned().collect();
    if in_range {
        keys.extend(table.keys().cloned());
    }
    let mut compared: BTreeMap<SliceKey, (ObjectSums, TickSums)> = BTreeMap::new();
    for key in keys {
        let sums = summed.slices.remove(&key).unwrap_or_default();
        let stored = table.get(&key).copied().unwrap_or_default();
        compared.insert(key, (sums, stored));
    }
    let unequal = |(key, (sums, stored)): (&SliceKey, &(ObjectSums, TickSums))| {
        let rows = sums.total.rows;
        (!equal(sums, stored)).then(|| Unequal { key: key.clone(), rows, objects: sums.objects.clone() })
    };
    let unequal: Vec<Unequal> = compared.iter().filter_map(unequal).collect();
    let mut differences = ticks::compare(client, &objects.candidates, &unequal, memory, most)?;
    let row = |(key, (sums, stored)): (SliceKey, (ObjectSums, TickSums))| {
        let problem = problems.get(&key).cloned();
        let extra_known = problem.is_none() && objects.are_all_of(&key);
        let differences = differences.remove(&key).unwrap_or_default();
        Ok(Verified {
            outcome: outcome(&differences, extra_known, problem.is_some()),
            objects: if sums.alike { sums.first } else { sums.total },
            asset: key.1.to_string(),
            bucket: timestamp(key.0)?,
            table: stored,
            differences,
            extra_known,
            problem,
        })
    };
    compared.into_iter().map(row).collect()
}

/// Returns whether the sums alone show that the table holds the objects' ticks: each object has other ticks of the
/// slice, or all have the same.
fn equal(sums: &ObjectSums, stored: &TickSums) -> bool {
    sums.total == *stored || (sums.alike && sums.first == *stored)
}

fn outcome(differences: &Differences, extra_known: bool, problem: bool) -> Outcome {
    let extra = extra_known && differences.extra.count > 0;
    if differences.missing.count > 0 || differences.differing.count > 0 || extra {
        Outcome::Different
    } else if problem {
        Outcome::Unproven
    } else {
        Outcome::Equal
    }
}
