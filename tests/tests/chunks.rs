//! Backfills by chunks: what comes of them is what slices make of the same objects, and works as any chunk does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backfill_bench;
mod chunks_bench;

use backfill_bench::{Bench, owned_by, role};
use btc_ingest_tests::Tick;
use btc_ingest_tests::stand::loaded;
use chunks_bench::{bench, put_weeks, some_ticks, week};
use postgres::Client;

/// Everything about the chunks that anybody could see a difference in, with names that hold no number of a chunk.
const SHAPE: &str = r"
    WITH chunk AS (
        SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS oid, range_start,
               format('chunk %s', row_number() OVER (ORDER BY range_start)) AS name
          FROM timescaledb_information.chunks WHERE hypertable_schema = 'market_data' AND hypertable_name = 'btc_ticks'
    ), line AS (
        SELECT c.name, concat_ws(' ', 'table', relkind, relpersistence, relowner::regrole, relnamespace::regnamespace, relam, reloptions,
                                 'tablespace', reltablespace, 'replica identity', relreplident, relchecks, relhasindex, relhastriggers,
                                 relrowsecurity, relforcerowsecurity, relispartition, relispopulated, reltoastrelid <> 0,
                                 (SELECT concat_ws(' ', t.reloptions, t.relowner::regrole) FROM pg_class t WHERE t.oid = p.reltoastrelid),
                                 (SELECT count(*) FROM pg_type y WHERE y.typrelid = p.oid AND y.typowner = p.relowner AND y.typname = p.relname),
                                 obj_description(p.oid, 'pg_class')) AS text
          FROM chunk c JOIN pg_class p ON p.oid = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'column', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attislocal,
                                 a.attinhcount, a.attstattarget, a.attstorage, a.attcompression, a.attcollation::regcollation,
                                 (SELECT string_agg(o, ' ') FROM unnest(a.attoptions) AS o WHERE o LIKE 'n\_distinct%'),
                                 a.attacl, a.attidentity, a.attgenerated, a.atthasdef, a.atthasmissing, pg_get_expr(d.adbin, d.adrelid))
          FROM chunk c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        UNION ALL
        SELECT c.name, concat_ws(' ', 'constraint', k.conname, k.contype, pg_get_constraintdef(k.oid), k.connamespace::regnamespace, k.conislocal,
                                 k.coninhcount, k.convalidated, k.connoinherit, k.condeferrable, k.conparentid = 0)
          FROM chunk c JOIN pg_constraint k ON k.conrelid = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'index', pg_get_indexdef(x.indexrelid), i.relowner::regrole, i.reloptions, i.reltablespace, x.indisvalid,
                                 x.indisready, x.indislive, x.indisprimary, x.indisclustered, x.indisreplident, x.indimmediate, x.indcheckxmin,
                                 (SELECT string_agg(concat_ws(' ', a.attname, a.attstattarget), ' ' ORDER BY a.attnum)
                                    FROM pg_attribute a WHERE a.attrelid = i.oid))
          FROM chunk c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'grant', g.grantor::regrole, g.grantee::regrole, g.privilege_type, g.is_grantable)
          FROM chunk c JOIN pg_class p ON p.oid = c.oid CROSS JOIN aclexplode(p.relacl) AS g
        UNION ALL
        SELECT c.name, concat_ws(' ', 'child of', i.inhparent::regclass, i.inhseqno, i.inhdetachpending)
          FROM chunk c JOIN pg_inherits i ON i.inhrelid = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled, t.tgisinternal)
          FROM chunk c JOIN pg_trigger t ON t.tgrelid = c.oid
        UNION ALL
        SELECT c.name, 'in publication ' || r.pubname
          FROM chunk c JOIN pg_publication_tables r ON format('%I.%I', r.schemaname, r.tablename)::regclass = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'explicitly in publication', p.pubname, r.prattrs, pg_get_expr(r.prqual, r.prrelid))
          FROM chunk c JOIN pg_publication_rel r ON r.prrelid = c.oid JOIN pg_publication p ON p.oid = r.prpubid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'depends', d.deptype, d.classid::regclass, d.objsubid, 'on', d.refclassid::regclass, d.refobjsubid, count(*))
          FROM chunk c JOIN pg_depend d ON c.oid IN (d.objid, d.refobjid)
         GROUP BY c.name, d.deptype, d.classid, d.objsubid, d.refclassid, d.refobjsubid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'shared', d.deptype, d.refclassid::regclass, d.refobjid::regrole, d.objsubid)
          FROM chunk c JOIN pg_shdepend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
           AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT c.name, 'initial privileges' FROM chunk c JOIN pg_init_privs i ON i.objoid = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'TimescaleDB', to_jsonb(t) - '{chunk_name, chunk_creation_time}'::text[])
          FROM chunk c JOIN timescaledb_information.chunks t ON format('%I.%I', t.chunk_schema, t.chunk_name)::regclass = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'catalog', to_jsonb(t) - '{id, table_name, creation_time}'::text[])
          FROM chunk c JOIN _timescaledb_catalog.chunk t ON format('%I.%I', t.schema_name, t.table_name)::regclass = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'slice', s.range_start, s.range_end, d.column_name)
          FROM chunk c JOIN _timescaledb_catalog.chunk t ON format('%I.%I', t.schema_name, t.table_name)::regclass = c.oid
          JOIN _timescaledb_catalog.dimension_slice s ON s.chunk_id = t.id
          JOIN _timescaledb_catalog.dimension d ON d.id = s.dimension_id
        UNION ALL
        SELECT c.name, concat_ws(' ', 'column statistics', to_jsonb(s) - '{id, chunk_id}'::text[])
          FROM chunk c JOIN _timescaledb_catalog.chunk t ON format('%I.%I', t.schema_name, t.table_name)::regclass = c.oid
          JOIN _timescaledb_catalog.chunk_column_stats s ON s.chunk_id = t.id
        UNION ALL
        SELECT 'root', concat_ws(' ', 'size', pg_relation_size('market_data.btc_ticks'), 'children', count(*))
          FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass
        UNION ALL
        SELECT 'root', concat_ws(' ', 'root', relhassubclass, relchecks, relhastriggers) FROM pg_class WHERE oid = 'market_data.btc_ticks'::regclass
        UNION ALL
        SELECT 'catalog', concat_ws(' ', count(DISTINCT t.id), count(DISTINCT s.id))
          FROM _timescaledb_catalog.hypertable h JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
          LEFT JOIN _timescaledb_catalog.chunk t ON t.hypertable_id = h.id LEFT JOIN _timescaledb_catalog.dimension_slice s ON s.dimension_id = d.id
         WHERE h.table_name = 'btc_ticks'
    )
    SELECT concat(name, ': ', regexp_replace(regexp_replace(regexp_replace(text, '_hyper_\d+_\d+_chunk', 'CHUNK', 'g'),
                  '\m\d+_(\d+_)?btc', 'N_btc', 'g'), 'constraint_\d+', 'constraint_N', 'g')) FROM line ORDER BY 1";

fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap_or_else(|error| panic!("{error:?}")).iter().map(|row| row.get(0)).collect()
}

/// The same objects and the same preparation in two databases, one by slices and one by chunks.
struct Pair {
    slices: Bench,
    chunks: Bench,
    all: Vec<Tick>,
}

impl Pair {
    fn new(prepare: &str) -> Option<Pair> {
        let (mut slices, mut chunks) = (bench()?, bench()?);
        let all = put_weeks(&slices, 0..3, 3);
        for side in [&mut slices, &mut chunks] {
            side.run(prepare);
        }
        let prefixes = slices.by_bucket();
        slices.done(&prefixes, "parallel => 2");
        chunks.chunked(&prefixes, "parallel => 2");
        Some(Pair { slices, chunks, all })
    }

    #[track_caller]
    fn must_be_alike(&mut self) {
        let (wanted, found) = (lines(&mut self.slices.client, SHAPE), lines(&mut self.chunks.client, SHAPE));
        let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
        let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
        assert!(missing.is_empty() && extra.is_empty(), "only by slices {missing:#?}, only by chunks {extra:#?}");
        assert!(wanted.len() > 100);
        let units = self.chunks.units();
        assert!(
            units.len() == 3 && units.iter().all(|unit| unit.starts_with("attached ") && !unit.contains(": ")),
            "{units:?}"
        );
        self.slices.must_hold_chunks(&self.all);
        self.chunks.must_hold_chunks(&self.all);
        let ticks = "SELECT to_jsonb(t) - 'ingested_at' #>> '{}' FROM market_data.btc_ticks t ORDER BY 1";
        assert!(lines(&mut self.slices.client, ticks) == lines(&mut self.chunks.client, ticks));
        let books = "SELECT (to_jsonb(o) - '{registered_at, loaded_at, attempt_started_at, backfill}'::text[])::text FROM ingestion.objects o
                     UNION ALL SELECT (to_jsonb(s) - 'loaded_at')::text FROM ingestion.object_slices s
                     UNION ALL SELECT (to_jsonb(b) - '{loaded_at, created_at}'::text[])::text FROM landing.raw_blobs_5m b
                     UNION ALL SELECT (to_jsonb(f) - 'updated_at')::text FROM ingestion.stream_offsets f
                     UNION ALL SELECT concat_ws(' ', s3_uri, etag, outcome, bytes, rows_read, rows_inserted, rows_duplicate, rows_rejected) FROM ingestion.load_history ORDER BY 1";
        let (wanted, found) = (lines(&mut self.slices.client, books), lines(&mut self.chunks.client, books));
        let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
        let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "books: only by slices {missing:#?}, only by chunks {extra:#?}"
        );
    }
}

#[test]
fn chunks_are_what_slices_make_of_a_plain_installation() {
    let Some(mut pair) = Pair::new("SELECT 1") else { return };
    pair.must_be_alike();
}

const CHANGED: &str = "
    ALTER TABLE market_data.btc_ticks ADD CONSTRAINT sane CHECK (price > 0 AND quantity >= 0);
    ALTER TABLE market_data.btc_ticks ADD CONSTRAINT later CHECK (trade_id > 0) NOT VALID;
    ALTER TABLE market_data.btc_ticks ALTER trade_time SET NOT NULL, ALTER symbol SET STATISTICS 500, ALTER price SET STATISTICS 0,
        ALTER trade_id SET (n_distinct = -0.5, n_distinct_inherited = -0.25), ALTER buyer_order_id SET STORAGE EXTERNAL,
        ALTER seller_order_id SET COMPRESSION pglz, ALTER seller_order_id SET DEFAULT 'nobody';
    ALTER TABLE market_data.btc_ticks SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = false);
    CREATE INDEX by_price ON market_data.btc_ticks (price DESC NULLS LAST) INCLUDE (quantity) WITH (fillfactor = 60) WHERE is_market_maker;
    CREATE INDEX by_lower ON market_data.btc_ticks (lower(symbol), bucket_5m);
    ALTER INDEX market_data.by_lower ALTER COLUMN 1 SET STATISTICS 40;
    CREATE STATISTICS market_data.linked ON symbol, price FROM market_data.btc_ticks;
    COMMENT ON COLUMN market_data.btc_ticks.price IS 'in quote currency';
    ALTER TABLE market_data.btc_ticks REPLICA IDENTITY FULL;
    CREATE PUBLICATION everything FOR TABLE market_data.btc_ticks;
    CREATE PUBLICATION few FOR TABLE market_data.btc_ticks (bucket_5m, symbol, trade_id) WHERE (symbol = 'BTCUSDT');
    GRANT SELECT, INSERT ON market_data.btc_ticks TO chunk_one WITH GRANT OPTION;
    GRANT SELECT ON market_data.btc_ticks TO PUBLIC;
    GRANT UPDATE (price) ON market_data.btc_ticks TO chunk_two;";

#[test]
fn chunks_are_what_slices_make_of_a_changed_hypertable() {
    let prepare = format!("{}{}{CHANGED}", role("chunk_one"), role("chunk_two"));
    let Some(mut pair) = Pair::new(&prepare) else { return };
    pair.must_be_alike();
}

#[test]
fn rights_that_somebody_else_has_granted_go_with_his_own() {
    let prepare = format!(
        "{}{}GRANT SELECT ON market_data.btc_ticks TO grantor_one WITH GRANT OPTION; GRANT USAGE ON SCHEMA market_data TO grantor_one;
         SET ROLE grantor_one; GRANT SELECT ON market_data.btc_ticks TO grantor_two; RESET ROLE;",
        role("grantor_one"),
        role("grantor_two")
    );
    let Some(mut pair) = Pair::new(&prepare) else { return };
    pair.must_be_alike();
    for (bench, by) in [(&mut pair.slices, "slices"), (&mut pair.chunks, "chunks")] {
        let sql = "SELECT count(*) FROM show_chunks('market_data.btc_ticks') AS c WHERE has_table_privilege('grantor_two', c, 'SELECT')";
        assert_eq!(bench.number(sql), 3);
        bench.run("REVOKE SELECT ON market_data.btc_ticks FROM grantor_one CASCADE");
        assert_eq!(bench.number(sql), 0, "chunks that grantor_two may still read, by {by}");
    }
}

#[test]
fn chunks_lack_the_rights_that_the_owner_has_given_up() {
    let Some(mut pair) = Pair::new("REVOKE UPDATE, DELETE, TRUNCATE ON market_data.btc_ticks FROM postgres;") else {
        return;
    };
    pair.must_be_alike();
}

#[test]
fn default_privileges_of_a_schema_give_nobody_a_chunk() {
    let prepare =
        format!("{}ALTER DEFAULT PRIVILEGES IN SCHEMA ingestion GRANT SELECT, DELETE ON TABLES TO nosy;", role("nosy"));
    let Some(mut pair) = Pair::new(&prepare) else { return };
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
    let Some(mut pair) = Pair::new(&prepare) else { return };
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
            SELECT time_bucket('1 hour', bucket_5m) AS hour, symbol, count(*) AS n FROM market_data.btc_ticks GROUP BY 1, 2 WITH NO DATA;";
    let Some(mut pair) = Pair::new(prepare) else { return };
    pair.must_be_alike();
}

#[test]
fn a_chunk_has_statistics_for_the_planner() {
    let Some(mut bench) = bench() else { return };
    put_weeks(&bench, 0..2, 3);
    bench.chunked(&bench.by_bucket(), "parallel => 1");
    let sql = "SELECT bool_and(c.reltuples = u.rows AND c.relpages > 0 AND (SELECT count(*) FROM pg_stats s WHERE s.tablename = c.relname) >= 10)::text
                 FROM ingestion.backfill_chunks u
                 JOIN timescaledb_information.chunks t ON t.range_start = u.chunk_from
                 JOIN pg_class c ON c.oid = format('%I.%I', t.chunk_schema, t.chunk_name)::regclass";
    assert_eq!(bench.text(sql), "true");
}

#[test]
fn a_live_load_into_an_attached_chunk_finds_duplicates_and_stores_the_rest() {
    let Some(mut bench) = bench() else { return };
    let mut all = put_weeks(&bench, 0..2, 3);
    bench.chunked(&bench.by_bucket(), "");
    let fresh = some_ticks("FRESH", week(0) + 300_000_000, 1);
    let mixed: Vec<Tick> = all[..20].iter().chain(&fresh).cloned().collect();
    let uri = bench.put("elsewhere/mixed.parquet", &mixed);
    let report = loaded(&mut bench.client, &uri, "");
    assert_eq!((report.inserted, report.duplicate), (fresh.len() as i64, 20));
    all.extend(fresh);
    bench.must_hold_chunks(&all);
    // Straight into the chunk's indexes, as any client's INSERT is.
    let copy = "INSERT INTO market_data.btc_ticks SELECT * FROM market_data.btc_ticks LIMIT 1";
    let error = bench.client.batch_execute(copy).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23505");
}

#[test]
fn attached_chunks_can_be_compressed_decompressed_and_dropped() {
    let Some(mut bench) = bench() else { return };
    let mut all = put_weeks(&bench, 0..3, 3);
    bench.run("ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', timescaledb.compress_orderby = 'bucket_5m, trade_id')");
    bench.chunked(&bench.by_bucket(), "");
    bench.run("SELECT compress_chunk(c) FROM show_chunks('market_data.btc_ticks') AS c");
    bench.must_hold_chunks(&all);
    let late = some_ticks("LATE", week(1) + 300_000_000, 1);
    let mixed: Vec<Tick> = all[..20].iter().chain(&late).cloned().collect();
    let uri = bench.put("elsewhere/mixed.parquet", &mixed);
    let report = loaded(&mut bench.client, &uri, "");
    assert_eq!((report.inserted, report.duplicate), (late.len() as i64, 20));
    all.extend(late);
    bench.must_hold_chunks(&all);
    bench.run("SELECT decompress_chunk(c, true) FROM show_chunks('market_data.btc_ticks') AS c");
    bench.must_hold_chunks(&all);
    assert_eq!(bench.number("SELECT count(*) FROM drop_chunks('market_data.btc_ticks', older_than => '2024-08-15 00:00+00'::timestamptz)"), 1);
    all.retain(|tick| tick.event_time_us >= week(1));
    bench.must_hold_chunks(&all);
    // Again from nothing, into the range of a chunk that is gone.
    let again = some_ticks("AGAIN", week(0), 2);
    bench.put("again/a.parquet", &again);
    bench.chunked(&[bench.prefix("again/")], "");
    assert_eq!(bench.units(), [format!("attached {}", again.len())]);
    all.extend(again);
    bench.must_hold_chunks(&all);
    bench.run("DROP TABLE market_data.btc_ticks");
    assert_eq!(bench.number("SELECT count(*) FROM _timescaledb_catalog.chunk"), 0);
}
