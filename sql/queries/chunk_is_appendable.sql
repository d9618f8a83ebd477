-- Whether a chunk has its key, a valid unique index over exactly its columns, without which duplicates would be stored.
-- And whether the append path may fill it, which bypasses TimescaleDB and the executor, and whether continuous
-- aggregates must learn what it changes. The hypertable must have one dimension. The chunk must be neither compressed
-- nor frozen, have no trigger, rule or row security, the columns of a tick in order, now() as the only default that
-- matters, and only plain, immediate B-tree indexes. With continuous aggregates, TimescaleDB must be a version that
-- notes the lowest and the greatest time of the rows that its INSERT stores in a chunk, in the executor, and logs all
-- between them when the transaction commits: before 2.23 a trigger did it, and versions behind 2.28 are unknown. In
-- those, an INSERT logs nothing if the WAL is to be read for it. The caller holds a lock on the chunk. $1: the chunk.
WITH root AS (
    SELECT h.id, 'market_data.btc_ticks'::regclass AS oid FROM _timescaledb_catalog.hypertable h
     WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
), chunk AS (
    SELECT c.oid, c.relkind, c.relpersistence, c.relam, c.relhasrules, c.relrowsecurity, to_jsonb(t) AS t
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN _timescaledb_catalog.chunk t ON t.schema_name = n.nspname AND t.table_name = c.relname
     WHERE c.oid = $1::oid
), tick AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'btc_ingest_internal' AND c.relname = 'tick'
), columns AS (
    -- A dropped column is listed, too: it takes a place in the tuple.
    SELECT a.attrelid AS oid,
           array_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated, a.attidentity)
                     ORDER BY a.attnum) AS columns
      FROM pg_attribute a
     WHERE a.attrelid IN (SELECT oid FROM chunk UNION ALL SELECT oid FROM tick) AND a.attnum > 0
     GROUP BY a.attrelid
), aggregates AS (
    SELECT FROM _timescaledb_catalog.continuous_agg a JOIN root ON a.raw_hypertable_id = root.id
), version AS (
    SELECT regexp_match(e.extversion, '^(\d+)\.(\d+)\.')::integer[] AS parts
      FROM pg_extension e WHERE e.extname = 'timescaledb'
)
SELECT json_build_object('aggregates', EXISTS (SELECT FROM aggregates), 'key', EXISTS (
    SELECT FROM pg_index x
      JOIN chunk ON x.indrelid = chunk.oid
     WHERE x.indisunique AND x.indimmediate AND x.indisvalid AND x.indisready AND x.indexprs IS NULL
       AND x.indpred IS NULL AND x.indnkeyatts = 3
       AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
             WHERE a.attrelid = x.indrelid AND a.attnum = ANY ((x.indkey::smallint[])[0:2]))
           = '{bucket_5m,symbol,trade_id}'), 'appendable', coalesce(
    (SELECT relkind = 'r' AND relpersistence = 'p' AND NOT relhasrules AND NOT relrowsecurity
            AND relam = (SELECT a.oid FROM pg_am a WHERE a.amname = 'heap')
            AND (t ->> 'status')::integer = 0 AND t ->> 'compressed_chunk_id' IS NULL
            AND NOT coalesce((t ->> 'osm_chunk')::boolean, false) AND NOT coalesce((t ->> 'dropped')::boolean, false)
       FROM chunk)
    AND (SELECT count(*) FROM _timescaledb_catalog.dimension d JOIN root ON d.hypertable_id = root.id) = 1
    AND (NOT EXISTS (SELECT FROM aggregates)
         OR (SELECT parts BETWEEN '{2,23}' AND '{2,28}' FROM version)
            AND current_setting('timescaledb.license', true) = 'timescale'
            AND coalesce(current_setting('timescaledb.enable_cagg_wal_based_invalidation', true), 'off') = 'off')
    -- ts_insert_blocker only guards the root table.
    AND NOT EXISTS (SELECT FROM pg_trigger g JOIN chunk ON g.tgrelid = chunk.oid)
    AND NOT EXISTS (SELECT FROM pg_trigger g JOIN root ON g.tgrelid = root.oid WHERE g.tgname <> 'ts_insert_blocker')
    AND (SELECT c.columns FROM columns c JOIN chunk USING (oid))
        = (SELECT c.columns FROM columns c JOIN tick USING (oid))
    AND (SELECT pg_get_expr(f.adbin, f.adrelid) FROM pg_attrdef f JOIN root ON f.adrelid = root.oid
           JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attname = 'ingested_at') = 'now()'
    AND NOT EXISTS (
        SELECT FROM pg_index x JOIN chunk ON x.indrelid = chunk.oid
          JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am a ON a.oid = i.relam
         WHERE a.amname <> 'btree' OR x.indexprs IS NOT NULL OR x.indpred IS NOT NULL OR x.indisexclusion
            OR NOT x.indimmediate OR NOT x.indisvalid OR NOT x.indisready), false))::text
