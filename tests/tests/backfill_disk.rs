//! Backfills onto a disk that is too small: what a dry run says of it, and what becomes of the work when it is full.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backfill_bench;
mod chunks_bench;

use backfill_bench::{Bench, owned_by};
use btc_ingest_tests::rows::START;
use btc_ingest_tests::stand::traces;
use btc_ingest_tests::ticks::{slice_key, time_us};
use btc_ingest_tests::{Generator, ParquetFile, SmallDisk, Tick};

/// A database whose hypertable is on a disk of four megabytes, and forty objects that need more than twice as much.
struct Short {
    bench: Bench,
    all: Vec<Tick>,
    // Goes after the database.
    disk: SmallDisk,
}

impl Short {
    fn new(bench: Bench) -> Option<Short> {
        let mut short = Short { bench, all: Vec::new(), disk: SmallDisk::mount("4m")? };
        let mut generator = Generator::new(3, "BTCUSDT", time_us(START), 1).per_second(3.0);
        let folder = format!("{}/Binance", short.bench.db.name());
        for _ in 0..40 {
            let key = slice_key(&folder, "BTCUSDT", generator.next_bucket_us());
            let slice = generator.next_slice();
            short.bench.stand.put(&key, ParquetFile::new().bytes(&slice));
            short.all.extend(slice);
        }
        Some(short)
    }

    /// The hypertable's chunks are made on the small disk from now on.
    fn move_there(&mut self) {
        let (name, path) = (format!("small_{}", self.bench.db.name()), self.disk.path().display());
        // A statement of its own: it may not be in a transaction.
        self.bench.run(&format!("CREATE TABLESPACE {name} LOCATION '{path}'"));
        self.bench.run(&format!("SELECT attach_tablespace('{name}', 'market_data.btc_ticks')"));
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        let name = format!("small_{}", self.bench.db.name());
        let sql = format!("DROP TABLE IF EXISTS market_data.btc_ticks CASCADE; DROP TABLESPACE IF EXISTS {name}");
        let _ = self.bench.db.psql(&sql);
    }
}

#[test]
fn a_dry_run_refuses_where_the_hypertables_disk_is_short_and_passes_when_there_is_space() {
    let Some(mut short) = Short::new(Bench::new()) else { return };
    let prefixes = [short.bench.prefix("Binance/")];
    // The data directory is not short.
    short.bench.done(&prefixes, "dry_run => true");
    short.move_there();
    let sql = format!(
        "SELECT concat_ws(' ', pg_size_pretty(disk_bytes), pg_size_pretty(free_bytes), disk_bytes > 2 * free_bytes,
                          free_bytes BETWEEN 3 << 20 AND 4 << 20) FROM btc_ingest.survey_backfill(ARRAY['{}'])",
        prefixes[0]
    );
    let survey = short.bench.text(&sql);
    let [needed, unit, free, free_unit, "t", "t"] = survey.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{survey}")
    };
    let (needed, free) = (format!("{needed} {unit}"), format!("{free} {free_unit}"));
    let called = short.bench.call(&prefixes, "dry_run => true");
    let refusal = called.refusal.clone().unwrap();
    assert_eq!(refusal.sqlstate, "TK016", "{called:#?}");
    assert_eq!(refusal.message, format!("the disk is short: the backfill needs about {needed}, {free} are free"));
    assert_eq!(refusal.hint, "Free space, add a disk, or take a shorter time range.");
    let said = called.of("NOTICE");
    assert!(
        said.iter().any(|line| line.starts_with(&format!("disk: about {needed} needed, {free} free"))),
        "{said:#?}"
    );
    assert_eq!(traces(&mut short.bench.client), []);

    short.disk.resize("64m");
    let called = short.bench.done(&prefixes, "dry_run => true");
    assert_eq!(called.of("NOTICE").len(), 4, "{called:#?}");
}

#[test]
fn a_dry_run_knows_the_disk_where_the_owner_is_no_superuser() {
    let mut bench = Bench::new();
    let all = bench.put_small(3);
    bench.run(&owned_by("disk_owner"));
    let prefixes = [bench.prefix("Binance/")];
    let called = bench.done(&prefixes, "dry_run => true");
    assert!(called.of("NOTICE")[1].contains(&format!("about {} ticks", all.len())), "{called:#?}");
    assert!(!called.of("NOTICE")[2].contains(", 0 bytes free"), "{called:#?}");
    bench.done(&prefixes, "");
    bench.must_hold(&all);
}

/// It stops when the disk is full, keeps what it has, and goes on when there is space.
fn a_full_disk_stops_it(mode: &str, bench: Bench) {
    let Some(mut short) = Short::new(bench) else { return };
    short.move_there();
    let Short { bench, all, disk } = &mut short;
    let prefixes = bench.by_bucket();
    let args = format!("parallel => 2, mode => '{mode}'");
    let called = bench.call(&prefixes, &args);
    let refusal = called.refusal.clone().unwrap();
    assert_eq!(refusal.sqlstate, "53100", "{called:#?}");
    assert!(refusal.message.contains("No space left on device"), "{refusal:?}");
    assert!(refusal.hint.contains("CALL it again"), "{refusal:?}");
    assert_eq!(bench.status("status, sqlstate, objects_failed"), "stopped 53100 0");
    bench.must_have_no_stage();
    let stored = bench.number("SELECT count(*) FROM market_data.btc_ticks");
    let booked = bench.number("SELECT coalesce(sum(rows_inserted), 0)::bigint FROM ingestion.objects");
    assert!(stored == booked && stored < all.len() as i64, "{stored} ticks, {booked} in the books");

    disk.resize("64m");
    let called = bench.done(&prefixes, &args);
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    bench.must_hold_chunks(all);
    let place = "SELECT string_agg(DISTINCT chunk_tablespace, ' ') FROM timescaledb_information.chunks";
    assert_eq!(bench.text(place), format!("small_{}", bench.db.name()));
}

#[test]
fn a_full_disk_stops_a_backfill_and_the_same_call_goes_on_when_there_is_space() {
    a_full_disk_stops_it("slice", Bench::new());
}

#[test]
fn a_full_disk_stops_a_backfill_by_chunks_and_the_same_call_goes_on_when_there_is_space() {
    let Some(bench) = chunks_bench::bench() else { return };
    a_full_disk_stops_it("chunk", bench);
}
