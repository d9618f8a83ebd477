//! The ticks, as objects and as files for COPY: every row of the table stores the same ticks in the same order.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use btc_ingest_kit::ticks::{time_text, time_us};
use btc_ingest_kit::{Generator, ParquetFile, Sums, Tick};
use bytes::Bytes;

use crate::pgcopy::CopyFile;
use crate::servers::{BUCKET, Servers};

/// The time of the first tick: midnight, and the start of a chunk of seven days.
pub const START: &str = "2024-08-08T00:00:00Z";
/// The symbol of all ticks.
pub const SYMBOL: &str = "BTCUSDT";
/// About as many ticks as a slice of real data was seen to hold.
pub const SLICE_TICKS: usize = 10_000;
/// Seconds of a day.
pub const DAY: u64 = 86_400;
const HOUR_US: i64 = 3_600_000_000;
/// The first id of all ticks.
pub const FIRST_ID: i64 = 3_000_000_000;

/// The same ticks as an object and as a file for COPY.
#[derive(Debug)]
pub struct Piece {
    /// The uri of the object.
    pub uri: String,
    /// The file for COPY.
    pub copy_file: PathBuf,
    /// The number of ticks.
    pub ticks: u64,
}

/// One day of ticks, as a whole and in slices.
#[derive(Debug)]
pub struct Day {
    /// As one object.
    pub whole: Piece,
    /// That object's bytes.
    pub object: Bytes,
    /// As one object per slice.
    pub slices: Vec<Piece>,
    /// The bytes of the slices' objects together.
    pub slices_bytes: u64,
    /// What must be stored when all of it is loaded.
    pub sums: Sums,
}

/// Returns exactly `count` ticks over `seconds` seconds from [`START`] on, the same ones every time.
pub fn ticks(count: usize, seconds: u64) -> Vec<Tick> {
    ticks_from(time_us(START), FIRST_ID, count, seconds)
}

/// Returns ticks like [`ticks`], from any time and id on.
///
/// They are in key order (bucket, symbol, trade id): there is one symbol, and times and ids grow together.
pub fn ticks_from(start: i64, first_id: i64, count: usize, seconds: u64) -> Vec<Tick> {
    let generator = |rate| Generator::new(1, SYMBOL, start, first_id).per_second(rate);
    // Bursts change the rate that the generator reaches. The times of one seed scale with the wanted rate, so a first
    // pass tells which rate to ask for.
    let wanted = count as f64 / seconds as f64;
    let last = generator(wanted).nth(count - 1).map_or(start, |tick| tick.event_time_us);
    let needed = (last - start) as f64 / (seconds as f64 * 1e6);
    // A little faster still, because delays and whole milliseconds do not scale.
    generator(wanted * needed * 1.001).take(count).collect()
}

/// Returns these ticks as a Parquet file of the usual shape.
pub fn parquet(ticks: &[Tick]) -> Bytes {
    ParquetFile::new().bytes(ticks)
}

impl Day {
    /// Generates the ticks and stores the objects.
    pub fn make(servers: &Servers, count: usize) -> Self {
        let ticks = ticks(count, DAY);
        let object = parquet(&ticks);
        let whole = piece(servers, "day", &ticks, object.clone());
        let mut slices_bytes = 0;
        let slices = ticks
            .chunk_by(|a, b| a.bucket_us() == b.bucket_us())
            .map(|slice| {
                let bytes = parquet(slice);
                slices_bytes += bytes.len() as u64;
                let name = time_text(slice[0].bucket_us(), "%Y/%m/%d/%H-%M");
                piece(servers, &format!("slices/{SYMBOL}/{name}"), slice, bytes)
            })
            .collect();
        Self { whole, object, slices, slices_bytes, sums: Sums::of(&ticks) }
    }

    /// Returns the pattern that a backfill of the slices takes.
    pub fn slices_prefix() -> String {
        format!("s3://{BUCKET}/slices/{{asset}}/{{yyyy}}/{{mm}}/{{dd}}/{{hh}}-{{mi}}.parquet")
    }
}

/// As many ticks over many days, in hourly objects.
#[derive(Debug)]
pub struct Spread {
    /// The file for COPY.
    pub copy_file: PathBuf,
    /// The number of objects.
    pub objects: usize,
    /// The bytes of the objects together.
    pub bytes: u64,
    /// What must be stored when all of it is loaded.
    pub sums: Sums,
}

impl Spread {
    /// Generates the ticks and stores the objects.
    pub fn make(servers: &Servers, count: usize, days: usize) -> Self {
        let ticks = ticks(count, days as u64 * DAY);
        let copy_file = servers.file("spread");
        write_copy(&copy_file, &ticks);
        let (mut objects, mut bytes) = (0, 0);
        for hour in ticks.chunk_by(|a, b| a.event_time_us / HOUR_US == b.event_time_us / HOUR_US) {
            let object = parquet(hour);
            objects += 1;
            bytes += object.len() as u64;
            servers
                .put(&format!("spread/{SYMBOL}/{}.parquet", time_text(hour[0].event_time_us, "%Y/%m/%d/%H")), object);
        }
        Self { copy_file, objects, bytes, sums: Sums::of(&ticks) }
    }

    /// Returns the pattern that a backfill takes.
    pub fn prefix() -> String {
        format!("s3://{BUCKET}/spread/{{asset}}/{{yyyy}}/{{mm}}/{{dd}}/{{hh}}.parquet")
    }
}

/// Stores the object, and its ticks as a file for COPY.
fn piece(servers: &Servers, name: &str, ticks: &[Tick], object: Bytes) -> Piece {
    let copy_file = servers.file(&name.replace('/', "_"));
    write_copy(&copy_file, ticks);
    Piece { uri: servers.put(&format!("{name}.parquet"), object), copy_file, ticks: ticks.len() as u64 }
}

fn write_copy(path: &Path, ticks: &[Tick]) {
    let write = || {
        let mut file = CopyFile::new(BufWriter::new(File::create(path)?))?;
        ticks.iter().try_for_each(|tick| file.push(tick))?;
        file.finish()
    };
    write().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_fill_their_days_in_key_order() {
        let ticks = ticks(20_000, DAY);
        assert_eq!(ticks.len(), 20_000);
        let start = time_us(START);
        let end = start + DAY as i64 * 1_000_000;
        let key = |tick: &Tick| (tick.bucket_us(), tick.trade_id);
        assert!(ticks.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])));
        assert!(ticks.iter().all(|tick| (start..end).contains(&tick.event_time_us)));
        assert!(end - ticks[ticks.len() - 1].event_time_us < 300_000_000);
    }
}
