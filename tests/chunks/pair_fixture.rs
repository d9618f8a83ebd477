//! The same objects, loaded one by one and by chunks, and everything in which the results could differ.

use btc_ingest_kit::Tick;
use btc_ingest_kit::fixture::backfill::{BackfillFixture, role};
use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_weeks};
use btc_ingest_kit::sql::{Session, text, texts};
use postgres::Client;

/// Everything about the chunks that could differ, with names that hold no number of a chunk.
const SHAPE: &str = r"
    WITH chunk AS (
        SELECT format('%I.%I', chunk_schema, chunk_name)::regclass AS oid, range_start,
               format('chunk %s', row_number() OVER (ORDER BY range_start)) AS name
          FROM timescaledb_information.chunks WHERE hypertable_schema = 'market_data' AND hypertable_name = 'btc_ticks'
    ), slice (chunk_id, text) AS (
        SLICES
    ), line AS (
        SELECT c.name, concat_ws(' ', 'table', relkind, relpersistence, relowner::regrole, relnamespace::regnamespace,
                                 relam, reloptions,
                                 'tablespace', reltablespace, 'replica identity', relreplident, relchecks, relhasindex,
                                 relhastriggers,
                                 relrowsecurity, relforcerowsecurity, relispartition, relispopulated,
                                 reltoastrelid <> 0,
                                 (SELECT concat_ws(' ', t.reloptions, t.relowner::regrole) FROM pg_class t
                                     WHERE t.oid = p.reltoastrelid),
                                 (SELECT count(*) FROM pg_type y
                                     WHERE y.typrelid = p.oid AND y.typowner = p.relowner AND y.typname = p.relname),
                                 obj_description(p.oid, 'pg_class')) AS text
          FROM chunk c JOIN pg_class p ON p.oid = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'column', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                                 a.attnotnull, a.attislocal,
                                 a.attinhcount, a.attstattarget, a.attstorage, a.attcompression,
                                 a.attcollation::regcollation,
                                 (SELECT string_agg(o, ' ') FROM unnest(a.attoptions) AS o WHERE o LIKE 'n\_distinct%'),
                                 a.attacl, a.attidentity, a.attgenerated, a.atthasdef, a.atthasmissing,
                                 pg_get_expr(d.adbin, d.adrelid))
          FROM chunk c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        UNION ALL
        SELECT c.name, concat_ws(' ', 'constraint', k.conname, k.contype, pg_get_constraintdef(k.oid),
                                 k.connamespace::regnamespace, k.conislocal,
                                 k.coninhcount, k.convalidated, k.connoinherit, k.condeferrable, k.conparentid = 0)
          FROM chunk c JOIN pg_constraint k ON k.conrelid = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'index', pg_get_indexdef(x.indexrelid), i.relowner::regrole, i.reloptions,
                                 i.reltablespace, x.indisvalid,
                                 x.indisready, x.indislive, x.indisprimary, x.indisclustered, x.indisreplident,
                                 x.indimmediate, x.indcheckxmin,
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
        SELECT c.name, concat_ws(' ', 'explicitly in publication', p.pubname, r.prattrs, pg_get_expr(r.prqual,
                                 r.prrelid))
          FROM chunk c JOIN pg_publication_rel r ON r.prrelid = c.oid JOIN pg_publication p ON p.oid = r.prpubid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'depends', d.deptype, d.classid::regclass, d.objsubid, 'on',
                                 d.refclassid::regclass, d.refobjsubid, count(*))
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
          FROM chunk c JOIN timescaledb_information.chunks t
              ON format('%I.%I', t.chunk_schema, t.chunk_name)::regclass = c.oid
        UNION ALL
        SELECT c.name, concat_ws(' ', 'catalog', to_jsonb(t) - '{id, table_name, creation_time}'::text[])
          FROM chunk c JOIN _timescaledb_catalog.chunk t
              ON format('%I.%I', t.schema_name, t.table_name)::regclass = c.oid
        UNION ALL
        SELECT c.name, slice.text
          FROM chunk c JOIN _timescaledb_catalog.chunk t
              ON format('%I.%I', t.schema_name, t.table_name)::regclass = c.oid
          JOIN slice ON slice.chunk_id = t.id
        UNION ALL
        SELECT c.name, concat_ws(' ', 'column statistics', to_jsonb(s) - '{id, chunk_id}'::text[])
          FROM chunk c JOIN _timescaledb_catalog.chunk t
              ON format('%I.%I', t.schema_name, t.table_name)::regclass = c.oid
          JOIN _timescaledb_catalog.chunk_column_stats s ON s.chunk_id = t.id
        UNION ALL
        SELECT 'root', concat_ws(' ', 'size', pg_relation_size('market_data.btc_ticks'), 'children', count(*))
          FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass
        UNION ALL
        SELECT 'root', concat_ws(' ', 'root', relhassubclass, relchecks, relhastriggers) FROM pg_class
            WHERE oid = 'market_data.btc_ticks'::regclass
        UNION ALL
        SELECT 'catalog', concat_ws(' ', count(DISTINCT t.id), count(DISTINCT s.id))
          FROM _timescaledb_catalog.hypertable h JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
          LEFT JOIN _timescaledb_catalog.chunk t ON t.hypertable_id = h.id LEFT
              JOIN _timescaledb_catalog.dimension_slice s ON s.dimension_id = d.id
         WHERE h.table_name = 'btc_ticks'
    )
    SELECT concat(name, ': ', regexp_replace(regexp_replace(regexp_replace(text, '_hyper_\d+_\d+_chunk', 'CHUNK', 'g'),
                  '\m\d+_(\d+_)?btc', 'N_btc', 'g'), 'constraint_\d+', 'constraint_N', 'g')) FROM line ORDER BY 1";

/// TimescaleDB's catalog rows of a chunk's dimension slice.
const SLICES: &str = "SELECT s.chunk_id, concat_ws(' ', 'slice', s.range_start, s.range_end, d.column_name)
    FROM _timescaledb_catalog.dimension_slice s JOIN _timescaledb_catalog.dimension d ON d.id = s.dimension_id";

/// The same for older versions, where chunks share slices and the catalog lists their constraints and indexes.
const OLDER_SLICES: &str = "SELECT k.chunk_id, concat_ws(' ', 'slice', s.range_start, s.range_end, d.column_name,
                                   to_jsonb(k) - '{chunk_id, dimension_slice_id}'::text[])
       FROM _timescaledb_catalog.chunk_constraint k LEFT
           JOIN _timescaledb_catalog.dimension_slice s ON s.id = k.dimension_slice_id
       LEFT JOIN _timescaledb_catalog.dimension d ON d.id = s.dimension_id
     UNION ALL SELECT i.chunk_id, concat_ws(' ', 'index', i.index_name, i.hypertable_index_name)
         FROM _timescaledb_catalog.chunk_index i";

fn shape(client: &mut Client) -> Vec<String> {
    let older = text(client, "SELECT (to_regclass('_timescaledb_catalog.chunk_index') IS NOT NULL)::text") == "true";
    texts(client, &SHAPE.replace("SLICES", if older { OLDER_SLICES } else { SLICES }))
}

/// The same objects and the same preparation in two databases: one loads them one by one, one by chunks.
pub struct PairFixture {
    pub objects: BackfillFixture,
    pub chunks: BackfillFixture,
    pub all: Vec<Tick>,
}

impl PairFixture {
    pub fn new(prepare: &str) -> Option<PairFixture> {
        let (mut objects, mut chunks) = (chunk_fixture()?, chunk_fixture()?);
        let all = put_weeks(&objects, 0..3, 3);
        for side in [&mut objects, &mut chunks] {
            side.run(prepare);
        }
        let prefixes = objects.by_bucket();
        objects.done(&prefixes, "parallel => 2");
        chunks.chunked(&prefixes, "parallel => 2");
        Some(PairFixture { objects, chunks, all })
    }

    #[track_caller]
    pub fn must_be_alike(&mut self) {
        let (wanted, found) = (shape(&mut self.objects.client), shape(&mut self.chunks.client));
        let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
        let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "only by loads of objects {missing:#?}, only by chunks {extra:#?}"
        );
        assert!(wanted.len() > 100);
        let units = self.chunks.units();
        assert!(
            units.len() == 3 && units.iter().all(|unit| unit.starts_with("attached ") && !unit.contains(": ")),
            "{units:?}"
        );
        self.objects.must_hold_chunks(&self.all);
        self.chunks.must_hold_chunks(&self.all);
        let ticks = "SELECT to_jsonb(t) - 'ingested_at' #>> '{}' FROM market_data.btc_ticks t ORDER BY 1";
        assert!(texts(&mut self.objects.client, ticks) == texts(&mut self.chunks.client, ticks));
        let records = "SELECT (to_jsonb(o) - '{registered_at, queued_at, loaded_at, attempt_started_at,
                                                  backfill, load_order}'::text[])::text
                       FROM ingestion.objects o
                     UNION ALL SELECT (to_jsonb(s) - 'loaded_at')::text FROM ingestion.object_slices s
                     UNION ALL SELECT (to_jsonb(b) - '{loaded_at, created_at, registered_at}'::text[])::text
                         FROM landing.raw_blobs_5m b
                     UNION ALL SELECT (to_jsonb(f) - 'updated_at')::text FROM ingestion.stream_offsets f
                     UNION ALL SELECT concat_ws(' ', s3_uri, etag, outcome, bytes, rows_read, rows_inserted,
                         rows_duplicate, rows_rejected) FROM ingestion.load_history ORDER BY 1";
        let (wanted, found) = (texts(&mut self.objects.client, records), texts(&mut self.chunks.client, records));
        let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
        let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "records: only by loads of objects {missing:#?}, only by chunks {extra:#?}"
        );
    }
}

/// Returns statements that change most properties that a chunk inherits from its hypertable.
pub fn changed() -> String {
    format!("{}{}{CHANGED}", role("chunk_one"), role("chunk_two"))
}

const CHANGED: &str = "
    ALTER TABLE market_data.btc_ticks SET (timescaledb.compress = false);
    ALTER TABLE market_data.btc_ticks ADD CONSTRAINT sane CHECK (price > 0 AND quantity >= 0);
    ALTER TABLE market_data.btc_ticks ADD CONSTRAINT later CHECK (trade_id > 0) NOT VALID;
    ALTER TABLE market_data.btc_ticks ALTER trade_time SET NOT NULL, ALTER symbol SET STATISTICS 500, ALTER price
        SET STATISTICS 0,
        ALTER trade_id SET (n_distinct = -0.5, n_distinct_inherited = -0.25), ALTER buyer_order_id SET STORAGE EXTERNAL,
        ALTER seller_order_id SET COMPRESSION pglz, ALTER seller_order_id SET DEFAULT 'absent';
    ALTER TABLE market_data.btc_ticks
        SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = false);
    CREATE INDEX by_price ON market_data.btc_ticks (price DESC NULLS LAST) INCLUDE (quantity) WITH (fillfactor = 60)
        WHERE is_market_maker;
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
