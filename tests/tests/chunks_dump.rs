//! Attached chunks in a dump: what is restored is what is restored of slices, and goes on living.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backfill_bench;
mod chunks_bench;

use backfill_bench::Bench;
use btc_ingest_tests::dump::copy;
use btc_ingest_tests::stand::loaded;
use btc_ingest_tests::ticks::BUCKET_US;
use chunks_bench::pair::{Pair, changed};
use chunks_bench::{put_slice, put_weeks, some_ticks, week};

/// The bench's database, dumped and restored.
fn restored(bench: &Bench) -> Bench {
    let db = copy(&bench.db);
    let client = db.client();
    Bench { stand: bench.stand, db, client }
}

/// The names of the chunks and what each of them holds, as TimescaleDB and PostgreSQL say it.
const CHUNKS: &str =
    "SELECT string_agg(concat_ws(' ', c.chunk_name, c.range_start, c.range_end, t.n), ', ' ORDER BY c.range_start)
      FROM timescaledb_information.chunks c
      LEFT JOIN (SELECT tableoid, count(*) AS n FROM market_data.btc_ticks GROUP BY 1) AS t
        ON t.tableoid = format('%I.%I', c.chunk_schema, c.chunk_name)::regclass";

/// Both sides of the pair, restored; what is restored of the chunks lives on.
fn must_survive(prepare: &str) {
    let Some(mut pair) = Pair::new(prepare) else { return };
    let chunks = pair.chunks.text(CHUNKS);
    let mut copies = Pair { slices: restored(&pair.slices), chunks: restored(&pair.chunks), all: pair.all.clone() };
    assert_eq!(copies.chunks.text(CHUNKS), chunks);
    copies.must_be_alike();

    // What was loaded is known.
    let (bench, mut all) = (&mut copies.chunks, copies.all);
    let prefixes = pair.slices.by_bucket();
    let said = bench.done(&prefixes, "mode => 'chunk'");
    assert!(said.of("NOTICE").last().unwrap().contains("0 objects loaded, 9 loaded before"), "{said:#?}");
    let uri = bench.text("SELECT min(s3_uri) FROM ingestion.objects");
    assert_eq!(loaded(&mut bench.client, &uri, "").outcome, "already loaded");
    let forced = loaded(&mut bench.client, &uri, "force => true");
    assert_eq!((forced.inserted, forced.duplicate), (0, forced.read));
    let twice = "INSERT INTO market_data.btc_ticks SELECT * FROM market_data.btc_ticks LIMIT 1";
    assert_eq!(bench.client.batch_execute(twice).unwrap_err().code().unwrap().code(), "23505");

    // What is new goes into the chunk that is there, and a new week makes a chunk as before.
    let late = some_ticks("LATE", week(1) + 10 * BUCKET_US, 1);
    let uri = bench.put("elsewhere/late.parquet", &late);
    assert_eq!(loaded(&mut bench.client, &uri, "").inserted, late.len() as i64);
    assert_eq!(bench.number("SELECT count(*) FROM timescaledb_information.chunks"), 3);
    all.extend(late);
    all.extend(put_weeks(bench, 5..6, 2));
    bench.chunked(&bench.by_bucket(), "");
    assert!(bench.units()[0].starts_with("attached "), "{:?}", bench.units());
    bench.must_hold_chunks(&all);
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
    let Some(mut bench) = chunks_bench::bench() else { return };
    let mut all = put_weeks(&bench, 0..3, 3);
    bench.run("ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'bucket_5m, trade_id')");
    bench.chunked(&bench.by_bucket(), "");
    bench.run("SELECT compress_chunk(c) FROM show_chunks('market_data.btc_ticks') AS c");
    let mut copy = restored(&bench);
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
