//! What the tests of backfills by chunks share: weeks of ticks, and what became of each week's chunk.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod pair;

use btc_ingest_tests::ticks::{BUCKET_US, slice_key, time_us};
use btc_ingest_tests::{Generator, ParquetFile, Stand, Tick};

use crate::backfill_bench::{Bench, Called, must_be_quiet, patient_no_more};

/// A chunk of a new installation, in microseconds.
pub const WEEK: i64 = 7 * 288 * BUCKET_US;

/// Where a chunk begins; the others are whole weeks away.
pub const THURSDAY: &str = "2024-08-08T00:00:00Z";

/// The beginning of the chunk so many weeks later.
pub fn week(number: i64) -> i64 {
    time_us(THURSDAY) + number * WEEK
}

/// A test's database where TimescaleDB has what mode 'chunk' needs.
pub fn bench() -> Option<Bench> {
    ready(Bench::new())
}

/// The same in a cluster that the test may let crash.
pub fn bench_alone() -> Option<Bench> {
    // As long as the others' stand, until this process ends.
    let stand: &'static Stand = Box::leak(Box::new(Stand::start()));
    patient_no_more(&stand.cluster);
    let db = stand.db();
    let client = db.client();
    ready(Bench { stand, db, client })
}

fn ready(mut bench: Bench) -> Option<Bench> {
    if bench.text("SHOW timescaledb.license") != "timescale" {
        println!("skipped: needs the Community edition");
        return None;
    }
    // No session waits longer than a test may: neither for a backfill that it watches nor for a lock.
    bench.run(&format!("ALTER DATABASE {} SET statement_timeout = '60s'", bench.db.name()));
    bench.client = bench.db.client();
    Some(bench)
}

/// Ticks of some buckets from a time on; ids of different weeks and symbols are far apart.
pub fn some_ticks(symbol: &str, start: i64, buckets: usize) -> Vec<Tick> {
    let first_id = start / 1000 - time_us("2020-01-01T00:00:00Z") / 1000;
    Generator::new(start as u64, symbol, start, first_id).per_second(0.2).next_slices(buckets)
}

/// Stores one object per bucket at noon of the first day of each of these weeks, and returns their ticks.
pub fn put_weeks(bench: &Bench, weeks: std::ops::Range<i64>, objects: usize) -> Vec<Tick> {
    let mut all = Vec::new();
    for number in weeks {
        for object in 0..objects as i64 {
            let start = week(number) + (144 + object) * BUCKET_US;
            let slice = some_ticks("BTCUSDT", start, 1);
            put_slice(bench, start, &slice);
            all.extend(slice);
        }
    }
    all
}

/// Stores ticks under the key of a bucket, whatever they are.
pub fn put_slice(bench: &Bench, bucket: i64, ticks: &[Tick]) -> String {
    let key = slice_key(&format!("{}/Binance", bench.db.name()), "BTCUSDT", bucket);
    bench.stand.put(&key, ParquetFile::new().bytes(ticks))
}

impl Bench {
    /// The prefix of [`put_slice`], whose keys say which bucket an object is of.
    pub fn by_bucket(&self) -> Vec<String> {
        vec![self.prefix("Binance/{asset}/{yyyy}/{mm}/{dd}/{*}_{yyyy}{mm}{dd}T{hh}{mi}Z")]
    }

    /// A backfill by chunks that ends well.
    #[track_caller]
    pub fn chunked(&self, prefixes: &[String], args: &str) -> Called {
        let comma = if args.is_empty() { "" } else { ", " };
        self.done(prefixes, &format!("mode => 'chunk'{comma}{args}"))
    }

    /// What became of each chunk of the latest backfill: `attached 12`, or `slices: why`.
    pub fn units(&mut self) -> Vec<String> {
        let sql = "SELECT concat_ws(': ', status || CASE WHEN status = 'attached' THEN ' ' || rows ELSE '' END, note)
                     FROM ingestion.backfill_chunks WHERE backfill = (SELECT max(id) FROM ingestion.backfills)
                    ORDER BY chunk_from";
        self.client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// read, inserted, duplicate, conflicting and attempts of each object, in the order of their uris.
    pub fn counts(&mut self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', rows_read, rows_inserted, rows_duplicate, rows_conflicting, status) FROM ingestion.objects ORDER BY s3_uri";
        self.client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Exactly these ticks, every object loaded, no worker, no lock, and no table that was to become a chunk.
    #[track_caller]
    pub fn must_hold_chunks(&mut self, ticks: &[Tick]) {
        self.must_hold(ticks);
        self.must_have_no_stage();
    }

    /// No table that was to become a chunk is left.
    #[track_caller]
    pub fn must_have_no_stage(&mut self) {
        must_be_quiet(&mut self.client);
        let sql = "SELECT coalesce(string_agg(oid::regclass::text, ' '), '') FROM pg_class WHERE relname LIKE 'btc\\_ticks\\_%' AND relnamespace = 'ingestion'::regnamespace";
        assert_eq!(self.text(sql), "", "tables that are left");
    }
}
