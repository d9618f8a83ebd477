//! Backfills onto a disk that is too small: what a dry run reports, and what happens when the disk is full.

use btc_ingest_kit::fixture::backfill::{BackfillFixture, owned_by};
use btc_ingest_kit::fixture::traces;
use btc_ingest_kit::rows::START;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::{slice_key, time_us};
use btc_ingest_kit::{Generator, ParquetFile, SmallDisk, Tick};

/// A database whose hypertable is on a disk of four megabytes, and forty objects that need more than twice as much.
struct SmallDiskFixture {
    fixture: BackfillFixture,
    all: Vec<Tick>,
    // Dropped after the database.
    disk: SmallDisk,
}

impl SmallDiskFixture {
    fn new(fixture: BackfillFixture) -> Option<SmallDiskFixture> {
        let mut short = SmallDiskFixture { fixture, all: Vec::new(), disk: SmallDisk::mount("4m")? };
        let mut generator = Generator::new(3, "BTCUSDT", time_us(START), 1).per_second(3.0);
        let folder = format!("{}/Binance", short.fixture.db.name());
        for _ in 0..40 {
            let key = slice_key(&folder, "BTCUSDT", generator.next_bucket_us());
            let slice = generator.next_slice();
            short.fixture.server.put(&key, ParquetFile::new().bytes(&slice));
            short.all.extend(slice);
        }
        Some(short)
    }

    /// Lets TimescaleDB create new chunks on the small disk.
    fn move_there(&mut self) {
        let (name, path) = (format!("small_{}", self.fixture.db.name()), self.disk.path().display());
        // A statement of its own: it may not be in a transaction.
        self.fixture.run(&format!("CREATE TABLESPACE {name} LOCATION '{path}'"));
        self.fixture.run(&format!("SELECT attach_tablespace('{name}', 'market_data.btc_ticks')"));
    }
}

impl Drop for SmallDiskFixture {
    fn drop(&mut self) {
        let name = format!("small_{}", self.fixture.db.name());
        let sql = format!("DROP TABLE IF EXISTS market_data.btc_ticks CASCADE; DROP TABLESPACE IF EXISTS {name}");
        let _ = self.fixture.db.psql(&sql);
    }
}

#[test]
fn a_dry_run_refuses_where_the_hypertables_disk_is_short_and_passes_when_there_is_space() {
    let Some(mut short) = SmallDiskFixture::new(BackfillFixture::new()) else { return };
    let prefixes = [short.fixture.prefix("Binance/")];
    // The data directory is not short.
    short.fixture.done(&prefixes, "dry_run => true");
    short.move_there();
    let sql = format!(
        "SELECT concat_ws(' ', pg_size_pretty(disk_bytes), pg_size_pretty(free_bytes), disk_bytes > 2 * free_bytes,
                          free_bytes BETWEEN 3 << 20 AND 4 << 20)
             FROM btc_ingest_internal.survey_backfill(ARRAY['{}'])",
        prefixes[0]
    );
    let survey = short.fixture.text(&sql);
    let [needed, unit, free, free_unit, "t", "t"] = survey.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{survey}")
    };
    let (needed, free) = (format!("{needed} {unit}"), format!("{free} {free_unit}"));
    let called = short.fixture.call(&prefixes, "dry_run => true");
    let refusal = called.refusal.clone().unwrap();
    assert_eq!(refusal.sqlstate, "TK016", "{called:#?}");
    assert_eq!(refusal.message, format!("the disk is short: the backfill needs about {needed}, {free} are free"));
    assert_eq!(refusal.hint, "Free space, add a disk, or take a shorter time range.");
    let said = called.of("NOTICE");
    assert!(
        said.iter().any(|line| line.starts_with(&format!("disk: about {needed} needed, {free} free"))),
        "{said:#?}"
    );
    assert_eq!(traces(&mut short.fixture.client), []);

    short.disk.resize("64m");
    let called = short.fixture.done(&prefixes, "dry_run => true");
    assert_eq!(called.of("NOTICE").len(), 4, "{called:#?}");
}

#[test]
fn a_dry_run_knows_the_disk_where_the_owner_is_no_superuser() {
    let mut fixture = BackfillFixture::new();
    let all = fixture.put_small(3);
    fixture.run(&owned_by("disk_owner"));
    let prefixes = [fixture.prefix("Binance/")];
    let called = fixture.done(&prefixes, "dry_run => true");
    assert!(called.of("NOTICE")[1].contains(&format!("about {} ticks", all.len())), "{called:#?}");
    assert!(!called.of("NOTICE")[2].contains(", 0 bytes free"), "{called:#?}");
    fixture.done(&prefixes, "");
    fixture.must_hold(&all);
}

/// Checks that a backfill stops when the disk is full, keeps what is stored, and goes on when there is space.
fn a_full_disk_stops_it(mode: &str, fixture: BackfillFixture) {
    let Some(mut short) = SmallDiskFixture::new(fixture) else { return };
    short.move_there();
    let SmallDiskFixture { fixture, all, disk } = &mut short;
    let prefixes = fixture.by_bucket();
    let args = format!("parallel => 2, mode => '{mode}'");
    let called = fixture.call(&prefixes, &args);
    let refusal = called.refusal.clone().unwrap();
    assert_eq!(refusal.sqlstate, "53100", "{called:#?}");
    assert!(refusal.message.contains("No space left on device"), "{refusal:?}");
    assert!(refusal.hint.contains("repeat the CALL"), "{refusal:?}");
    assert_eq!(fixture.status("status, sqlstate, objects_failed"), "stopped 53100 0");
    fixture.must_have_no_stage();
    let stored = fixture.number("SELECT count(*) FROM market_data.btc_ticks");
    let recorded = fixture.number("SELECT coalesce(sum(rows_inserted), 0)::bigint FROM ingestion.objects");
    assert!(stored == recorded && stored < all.len() as i64, "{stored} ticks, {recorded} recorded");

    disk.resize("64m");
    let called = fixture.done(&prefixes, &args);
    assert!(called.of("NOTICE")[0].contains("backfill 1 goes on where it stood"), "{called:#?}");
    fixture.must_hold_chunks(all);
    let place = "SELECT string_agg(DISTINCT chunk_tablespace, ' ') FROM timescaledb_information.chunks";
    assert_eq!(fixture.text(place), format!("small_{}", fixture.db.name()));
}

#[test]
fn a_full_disk_stops_a_backfill_and_the_same_call_goes_on_when_there_is_space() {
    a_full_disk_stops_it("object", BackfillFixture::new());
}

#[test]
fn a_full_disk_stops_a_backfill_by_chunks_and_the_same_call_goes_on_when_there_is_space() {
    let Some(fixture) = btc_ingest_kit::fixture::chunks::chunk_fixture() else { return };
    a_full_disk_stops_it("chunk", fixture);
}
