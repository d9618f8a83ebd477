//! Attached chunks in a dump: the restored chunks equal those of loaded objects, and stay usable.

use btc_ingest_kit::dump::copy;
use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::fixture::chunks::{COMPRESSIBLE, put_slice, put_weeks, some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::Session;
use btc_ingest_kit::ticks::BUCKET_US;

use crate::pair_fixture::{PairFixture, changed};

/// Dumps and restores the fixture's database.
fn restored(fixture: &BackfillFixture) -> BackfillFixture {
    let db = copy(&fixture.db);
    let client = db.client();
    BackfillFixture { server: fixture.server, db, client }
}

/// Returns names and contents of the chunks, from the catalogs of TimescaleDB and PostgreSQL.
const CHUNKS: &str =
    "SELECT string_agg(concat_ws(' ', c.chunk_name, c.range_start, c.range_end, t.n), ', ' ORDER BY c.range_start)
      FROM timescaledb_information.chunks c
      LEFT JOIN (SELECT tableoid, count(*) AS n FROM market_data.btc_ticks GROUP BY 1) AS t
        ON t.tableoid = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass";

/// Restores both sides of the pair, compares them, and checks that the chunks are usable.
fn must_survive(prepare: &str) {
    let Some(mut pair) = PairFixture::new(prepare) else { return };
    let chunks = pair.chunks.text(CHUNKS);
    let mut copies =
        PairFixture { objects: restored(&pair.objects), chunks: restored(&pair.chunks), all: pair.all.clone() };
    assert_eq!(copies.chunks.text(CHUNKS), chunks);
    copies.must_be_alike();

    // A loaded object is known.
    let (fixture, mut all) = (&mut copies.chunks, copies.all);
    let prefixes = pair.objects.by_bucket();
    let said = fixture.done(&prefixes, "mode => 'chunk'");
    assert!(said.of("NOTICE").last().unwrap().contains("0 objects loaded, 9 loaded before"), "{said:#?}");
    let uri = fixture.text("SELECT min(s3_uri) FROM ingestion.objects");
    assert_eq!(loaded(&mut fixture.client, &uri, "").outcome, "already loaded");
    let forced = loaded(&mut fixture.client, &uri, "force => true");
    assert_eq!((forced.inserted, forced.duplicate), (0, forced.read));
    let twice = "INSERT INTO market_data.btc_ticks SELECT * FROM market_data.btc_ticks LIMIT 1";
    assert_eq!(fixture.client.batch_execute(twice).unwrap_err().code().unwrap().code(), "23505");

    // New ticks are stored in the existing chunk, and a new week creates a chunk.
    let late = some_ticks("LATE", week(1) + 10 * BUCKET_US, 1);
    let uri = fixture.put("elsewhere/late.parquet", &late);
    assert_eq!(loaded(&mut fixture.client, &uri, "").inserted, late.len() as i64);
    assert_eq!(fixture.number("SELECT count(*) FROM timescaledb_information.chunks"), 3);
    all.extend(late);
    all.extend(put_weeks(fixture, 5..6, 2));
    fixture.chunked(&fixture.by_bucket(), "");
    assert!(fixture.units()[0].starts_with("attached "), "{:?}", fixture.units());
    fixture.must_hold_chunks(&all);
}

#[test]
fn attached_chunks_of_a_plain_installation_survive_a_dump() {
    must_survive("SELECT 1");
}

#[test]
fn attached_chunks_of_a_changed_hypertable_survive_a_dump() {
    must_survive(&changed());
}

#[test]
fn compressed_chunks_that_were_attached_survive_a_dump() {
    let Some(mut fixture) = btc_ingest_kit::fixture::chunks::chunk_fixture() else { return };
    let mut all = put_weeks(&fixture, 0..3, 3);
    fixture.run(COMPRESSIBLE);
    fixture.chunked(&fixture.by_bucket(), "");
    fixture.run("SELECT compress_chunk(c) FROM show_chunks('market_data.btc_ticks') AS c");
    let mut copy = restored(&fixture);
    copy.must_hold_chunks(&all);
    assert_eq!(copy.number("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"), 3);
    let late = some_ticks("LATE", week(1) + 10 * BUCKET_US, 1);
    let mixed = [&all[..20], &late].concat();
    let uri = put_slice(&copy, week(1), &mixed);
    let report = loaded(&mut copy.client, &uri, "");
    assert_eq!((report.inserted, report.duplicate), (late.len() as i64, 20));
    all.extend(late);
    copy.must_hold_chunks(&all);
}
