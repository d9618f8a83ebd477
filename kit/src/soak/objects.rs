//! What is to be loaded: good slices with the sums that they must come to, poisoned objects, and the order in which
//! all of them are registered.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::options::Options;
use super::soak_fixture::{ASSETS, BUCKET, SoakFixture};
use crate::ticks::{Random, slice_key, time_us};
use crate::{Generator, ParquetFile, Sums, Tick};

/// The folder of all objects; a backfill lists the second asset's.
pub const PREFIX: &str = "soak/Binance";
/// How many objects cannot be loaded.
pub const POISONED: usize = 20;
/// The first bucket.
const START: &str = "2024-08-08T12:00:00Z";
/// Ticks per second: a few hundred ticks a slice.
const PER_SECOND: f64 = 1.0;
/// One of so many slices is registered twice, and one of so many of these has grown meanwhile.
const TWICE: u64 = 10;
const GROWN: u64 = 3;

/// One row of the registry, as its producer writes it.
#[derive(Debug, Clone)]
pub struct Registration {
    pub bucket_us: i64,
    pub asset: &'static str,
    pub uri: String,
    /// The key and the new content of an object that is replaced.
    pub replaced: Option<(String, Bytes)>,
}

/// All objects of a soak.
#[derive(Default)]
pub struct Objects {
    /// The registrations in their order.
    pub registrations: Vec<Registration>,
    /// The sums of each asset.
    pub sums: BTreeMap<&'static str, Sums>,
    /// Ticks of each (asset, bucket).
    pub counts: BTreeMap<(&'static str, i64), i64>,
    /// Objects that are registered once and that no backfill sees.
    pub plain: BTreeSet<String>,
    /// Objects that cannot be loaded.
    pub poisoned: BTreeSet<String>,
    /// The number of objects of each kind: good, registered twice, grown in between.
    pub good: usize,
    pub twice: usize,
    pub grown: usize,
}

/// Generates and stores them.
pub fn make(fixture: &SoakFixture, options: &Options) -> Objects {
    let mut random = Random(options.seed);
    let mut objects = Objects::default();
    let mut timed = Vec::new();
    let mut generators: Vec<Generator> = ASSETS
        .iter()
        .zip(1..)
        .map(|(asset, number)| {
            Generator::new(options.seed + number, asset, time_us(START), 1_000_000 * number as i64)
                .per_second(PER_SECOND)
        })
        .collect();
    for number in 0..options.slices {
        let asset = number % ASSETS.len();
        let slice = generators[asset].next_slice();
        timed.extend(good(fixture, &mut objects, ASSETS[asset], &slice, &mut random));
    }
    for number in 0..POISONED {
        let asset = number % ASSETS.len();
        let bucket_us = generators[asset].next_bucket_us();
        let ticks = generators[asset].next_slice();
        let uri = poison(fixture, number, ASSETS[asset], bucket_us, &ticks);
        objects.poisoned.insert(uri.clone());
        let registration = Registration { bucket_us, asset: ASSETS[asset], uri, replaced: None };
        timed.push((random.fraction(), registration));
    }
    timed.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    objects.registrations = timed.into_iter().map(|(_, registration)| registration).collect();
    objects
}

/// Makes a slice and decides when it is registered: once, or twice.
fn good(
    fixture: &SoakFixture,
    objects: &mut Objects,
    asset: &'static str,
    ticks: &[Tick],
    random: &mut Random,
) -> Vec<(f64, Registration)> {
    let bucket_us = ticks[0].bucket_us();
    let key = slice_key(PREFIX, asset, bucket_us);
    let sums = objects.sums.entry(asset).or_default();
    ticks.iter().for_each(|tick| sums.add(tick));
    objects.counts.insert((asset, bucket_us), ticks.len() as i64);
    objects.good += 1;

    let whole = ParquetFile::new().bytes(ticks);
    let (twice, grown) = (random.below(TWICE) == 0, random.below(GROWN) == 0);
    let at_first = if twice && grown { ParquetFile::new().bytes(&ticks[..ticks.len() / 2]) } else { whole.clone() };
    let uri = fixture.put(&key, at_first);
    let at = random.fraction();
    let first = Registration { bucket_us, asset, uri, replaced: None };
    if !twice {
        if asset != ASSETS[1] {
            objects.plain.insert(first.uri.clone());
        }
        return vec![(at, first)];
    }
    objects.twice += 1;
    objects.grown += usize::from(grown);
    let second = Registration { replaced: grown.then_some((key, whole)), ..first.clone() };
    vec![(at, first), (at + (1.0 - at) * random.fraction(), second)]
}

/// Makes an object that is truncated, garbage, without a column, or absent.
fn poison(fixture: &SoakFixture, number: usize, asset: &str, bucket_us: i64, ticks: &[Tick]) -> String {
    let key = slice_key(PREFIX, asset, bucket_us);
    let whole = ParquetFile::new().bytes(ticks);
    match number % 4 {
        0 => fixture.put(&key, whole.slice(..whole.len() / 2)),
        1 => fixture.put(&key, Bytes::from("these are no ticks; ".repeat(50))),
        2 => fixture.put(&key, ParquetFile::new().without("price").bytes(ticks)),
        _ => format!("s3://{BUCKET}/{key}"),
    }
}
