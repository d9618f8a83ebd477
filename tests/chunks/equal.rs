//! Backfills by chunks: the chunks equal those that loads of the same objects create, and work as any chunk.

use btc_ingest_kit::Tick;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::fixture::backfill::{BackfillFixture, owned_by, role};
use btc_ingest_kit::fixture::chunks::{COMPRESSIBLE, chunk_fixture, put_weeks, some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::Session;

use crate::pair_fixture::{PairFixture, changed};

#[test]
fn chunks_are_what_object_loads_make_of_a_plain_installation() {
    let Some(mut pair) = PairFixture::new("SELECT 1") else { return };
    pair.must_be_alike();
}

#[test]
fn chunks_are_what_object_loads_make_of_a_changed_hypertable() {
    let Some(mut pair) = PairFixture::new(&changed()) else { return };
    pair.must_be_alike();
}

#[test]
fn privileges_that_another_role_has_granted_go_with_its_own() {
    let prepare = format!(
        "{}{}GRANT SELECT ON market_data.btc_ticks TO grantor_one WITH GRANT OPTION;
         GRANT USAGE ON SCHEMA market_data TO grantor_one;
         SET ROLE grantor_one; GRANT SELECT ON market_data.btc_ticks TO grantor_two; RESET ROLE;",
        role("grantor_one"),
        role("grantor_two")
    );
    let Some(mut pair) = PairFixture::new(&prepare) else { return };
    pair.must_be_alike();
    for (fixture, by) in [(&mut pair.objects, "objects"), (&mut pair.chunks, "chunks")] {
        let sql = "SELECT count(*) FROM show_chunks('market_data.btc_ticks') AS c
                    WHERE has_table_privilege('grantor_two', c, 'SELECT')";
        assert_eq!(fixture.number(sql), 3);
        fixture.run("REVOKE SELECT ON market_data.btc_ticks FROM grantor_one CASCADE");
        assert_eq!(fixture.number(sql), 0, "chunks that grantor_two may still read, by {by}");
    }
}

#[test]
fn chunks_lack_the_privileges_that_the_owner_has_given_up() {
    let Some(mut pair) = PairFixture::new("REVOKE UPDATE, DELETE, TRUNCATE ON market_data.btc_ticks FROM postgres;")
    else {
        return;
    };
    pair.must_be_alike();
}

#[test]
fn default_privileges_of_a_schema_give_no_role_a_chunk() {
    let prepare =
        format!("{}ALTER DEFAULT PRIVILEGES IN SCHEMA ingestion GRANT SELECT, DELETE ON TABLES TO nosy;", role("nosy"));
    let Some(mut pair) = PairFixture::new(&prepare) else { return };
    pair.must_be_alike();
}

#[test]
fn chunks_are_alike_where_the_owner_is_no_superuser() {
    let prepare = format!(
        "{}
         CREATE FUNCTION market_data.sane(numeric) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 > 0';
         ALTER FUNCTION market_data.sane OWNER TO plain_owner;
         ALTER TABLE market_data.btc_ticks ADD CHECK (market_data.sane(price));",
        owned_by("plain_owner")
    );
    let Some(mut pair) = PairFixture::new(&prepare) else { return };
    pair.must_be_alike();
}

#[test]
fn chunks_are_alike_with_policies_compression_and_aggregates() {
    let prepare = "
        ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol');
        SELECT add_compression_policy('market_data.btc_ticks', interval '100 years');
        SELECT add_retention_policy('market_data.btc_ticks', interval '200 years');
        SET timescaledb.enable_chunk_skipping = on;
        SELECT enable_chunk_skipping('market_data.btc_ticks', 'trade_id');
        RESET timescaledb.enable_chunk_skipping;
        CREATE MATERIALIZED VIEW market_data.hourly WITH (timescaledb.continuous) AS
            SELECT time_bucket('1 hour', bucket_5m) AS hour, symbol, count(*) AS n FROM market_data.btc_ticks
                GROUP BY 1, 2 WITH NO DATA;";
    let Some(mut pair) = PairFixture::new(prepare) else { return };
    pair.must_be_alike();
}

#[test]
fn a_chunk_has_statistics_for_the_planner() {
    let Some(mut fixture) = chunk_fixture() else { return };
    put_weeks(&fixture, 0..2, 3);
    fixture.chunked(&fixture.by_bucket(), "parallel => 1");
    let sql = "SELECT bool_and(c.reltuples = u.rows AND c.relpages > 0 AND (SELECT count(*) FROM pg_stats s
                WHERE s.tablename = c.relname) >= 10)::text
                 FROM ingestion.backfill_chunks u
                 JOIN timescaledb_information.chunks t ON t.range_start = u.chunk_from
                 JOIN pg_class c ON c.oid = format('%I.%I', t.chunk_schema, t.chunk_name)::regclass";
    assert_eq!(fixture.text(sql), "true");
}

/// Makes a test's database, or returns `None` where TimescaleDB builds the indexes of an attached chunk itself.
fn fixture_with_own_indexes() -> Option<BackfillFixture> {
    let mut fixture = chunk_fixture()?;
    let old = "SELECT count(*) FROM pg_class
                WHERE oid = to_regclass('_timescaledb_catalog.chunk_constraint') AND relkind = 'r'";
    if fixture.number(old) > 0 {
        println!("skipped: this TimescaleDB builds a chunk's indexes itself");
        return None;
    }
    Some(fixture)
}

#[test]
fn indexes_are_made_before_the_ticks_are_stored_if_they_are_filled_in_runs() {
    for (fill, before) in [("row", "f"), ("runs", "t")] {
        let Some(mut fixture) = fixture_with_own_indexes() else { return };
        let name = fixture.db.name().to_owned();
        fixture.run(&format!("LOAD 'btc_ingest'; ALTER DATABASE {name} SET btc_ingest.index_fill = '{fill}'"));
        let all = put_weeks(&fixture, 0..2, 3);
        fixture.chunked(&fixture.by_bucket(), "parallel => 1");
        // The columns of an index and the ticks have the numbers of the commands that have made them.
        let sql = "SELECT concat(count(*), ' ', string_agg(DISTINCT (
                              (SELECT max(a.cmin::text::bigint) FROM pg_attribute a WHERE a.attrelid = x.indexrelid)
                            < (SELECT min(t.cmin::text::bigint) FROM market_data.btc_ticks t WHERE t.tableoid = c)
                          )::text::char, ' '))
                     FROM show_chunks('market_data.btc_ticks') AS c JOIN pg_index x ON x.indrelid = c";
        assert_eq!(fixture.text(sql), format!("6 {before}"), "{fill}");
        must_be_sound(&mut fixture.client, fill);
        fixture.must_hold_chunks(&all);
    }
}

#[test]
fn indexes_stand_before_the_hypertable_is_locked() {
    let Some(mut fixture) = fixture_with_own_indexes() else { return };
    put_weeks(&fixture, 0..2, 3);
    fixture.chunked(&fixture.by_bucket(), "parallel => 1");
    // create_chunk makes the CHECK of the chunk's borders.
    let sql = "SELECT concat(count(DISTINCT x.indexrelid), ' ', bool_and(x.indexrelid < k.oid))
                 FROM show_chunks('market_data.btc_ticks') AS c JOIN pg_index x ON x.indrelid = c
                 JOIN pg_constraint k ON k.conrelid = c AND k.contype = 'c' AND k.conname LIKE 'constraint%'";
    assert_eq!(fixture.text(sql), "6 t");
}

#[test]
fn a_live_load_into_an_attached_chunk_finds_duplicates_and_stores_the_rest() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let mut all = put_weeks(&fixture, 0..2, 3);
    fixture.chunked(&fixture.by_bucket(), "");
    let fresh = some_ticks("FRESH", week(0) + 300_000_000, 1);
    let mixed: Vec<Tick> = all[..20].iter().chain(&fresh).cloned().collect();
    let uri = fixture.put("elsewhere/mixed.parquet", &mixed);
    let report = loaded(&mut fixture.client, &uri, "");
    assert_eq!((report.inserted, report.duplicate), (fresh.len() as i64, 20));
    all.extend(fresh);
    fixture.must_hold_chunks(&all);
    // Appended to the chunk's indexes, as a client's INSERT is.
    let copy = "INSERT INTO market_data.btc_ticks SELECT * FROM market_data.btc_ticks LIMIT 1";
    let error = fixture.client.batch_execute(copy).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23505");
}

#[test]
fn attached_chunks_can_be_compressed_decompressed_and_dropped() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let mut all = put_weeks(&fixture, 0..3, 3);
    fixture.run(COMPRESSIBLE);
    fixture.chunked(&fixture.by_bucket(), "");
    fixture.run("SELECT compress_chunk(c) FROM show_chunks('market_data.btc_ticks') AS c");
    fixture.must_hold_chunks(&all);
    let late = some_ticks("LATE", week(1) + 300_000_000, 1);
    let mixed: Vec<Tick> = all[..20].iter().chain(&late).cloned().collect();
    let uri = fixture.put("elsewhere/mixed.parquet", &mixed);
    let report = loaded(&mut fixture.client, &uri, "");
    assert_eq!((report.inserted, report.duplicate), (late.len() as i64, 20));
    all.extend(late);
    fixture.must_hold_chunks(&all);
    fixture.run("SELECT decompress_chunk(c, true) FROM show_chunks('market_data.btc_ticks') AS c");
    fixture.must_hold_chunks(&all);
    assert_eq!(
        fixture.number(
            "SELECT count(*) FROM drop_chunks('market_data.btc_ticks',
                                      older_than => '2024-08-15 00:00+00'::timestamptz)"
        ),
        1
    );
    all.retain(|tick| tick.event_time_us >= week(1));
    fixture.must_hold_chunks(&all);
    // Again from nothing, into the range of a chunk that is gone.
    let again = some_ticks("AGAIN", week(0), 2);
    fixture.put("again/a.parquet", &again);
    fixture.chunked(&[fixture.prefix("again/")], "");
    assert_eq!(fixture.units(), [format!("attached {}", again.len())]);
    all.extend(again);
    fixture.must_hold_chunks(&all);
    fixture.run("DROP TABLE market_data.btc_ticks");
    assert_eq!(fixture.number("SELECT count(*) FROM _timescaledb_catalog.chunk"), 0);
}
