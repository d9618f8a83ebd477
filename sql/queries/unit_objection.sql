-- What prevents a chunk from being built as a whole; null: nothing. $1 and $2: start and end of the chunk.
WITH root AS (
    SELECT h.id, 'market_data.btc_ticks'::regclass AS oid FROM _timescaledb_catalog.hypertable h
     WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
), tick AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'btc_ingest_internal' AND c.relname = 'tick'
), columns AS (
    -- A dropped column is listed, too: it takes a place in the tuple.
    SELECT a.attrelid AS oid,
           array_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated, a.attidentity)
                     ORDER BY a.attnum) AS columns
      FROM pg_attribute a
     WHERE a.attrelid IN (SELECT oid FROM root UNION ALL SELECT oid FROM tick) AND a.attnum > 0
     GROUP BY a.attrelid
)
SELECT to_json(coalesce(
    (SELECT 'timescaledb.license is ' || coalesce(current_setting('timescaledb.license', true), 'not set')
      WHERE current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale'),
    (SELECT 'the hypertable has ' || count(*) || ' dimensions' FROM _timescaledb_catalog.dimension d
       JOIN root ON d.hypertable_id = root.id HAVING count(*) <> 1),
    (SELECT 'the chunk interval has changed' FROM _timescaledb_catalog.dimension d
       JOIN root ON d.hypertable_id = root.id
      WHERE d.interval_length <> (extract(epoch FROM $2) - extract(epoch FROM $1)) * 1000000 LIMIT 1),
    (SELECT format('the chunk exists already, or a part of it (%s.%s)', c.chunk_schema, c.chunk_name)
       FROM timescaledb_information.chunks c
      WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
        AND c.range_start < $2 AND c.range_end > $1 LIMIT 1),
    (SELECT 'retention has dropped ticks of it' FROM ops.dropped_ranges d
      WHERE d.restored_at IS NULL AND d.from_time < $2 AND d.to_time > $1 LIMIT 1),
    (SELECT 'the trigger ' || g.tgname || ' would not see the ticks' FROM pg_trigger g JOIN root ON g.tgrelid = root.oid
      WHERE NOT g.tgisinternal AND g.tgname NOT IN ('ts_insert_blocker', 'ts_cagg_invalidation_trigger') LIMIT 1),
    (SELECT 'a foreign key stands on the hypertable' FROM pg_constraint k
       JOIN root ON k.conrelid = root.oid OR k.confrelid = root.oid
      WHERE k.contype = 'f' LIMIT 1),
    (SELECT 'a rule stands on the hypertable' FROM pg_class c JOIN root ON c.oid = root.oid WHERE c.relhasrules),
    (SELECT 'tablespaces are attached to the hypertable' FROM _timescaledb_catalog.tablespace t
       JOIN root ON t.hypertable_id = root.id LIMIT 1),
    (SELECT 'the hypertable''s columns are not those of a new installation' FROM root
      WHERE (SELECT c.columns FROM columns c WHERE c.oid = root.oid)
            IS DISTINCT FROM (SELECT c.columns FROM columns c JOIN tick USING (oid))
         OR (SELECT pg_get_expr(f.adbin, f.adrelid) FROM pg_attrdef f
               JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attname = 'ingested_at'
              WHERE f.adrelid = root.oid) IS DISTINCT FROM 'now()')
))::text
