-- The statements that create the plain table that becomes a chunk, for the tables' owner to run, and the name of the
-- table. The settings of a worker write times in UTC and in ISO 8601, which every setting reads alike. $1: name without
-- schema, $2 and $3: start and end of the chunk.
WITH root AS (
    SELECT c.* FROM pg_class c WHERE c.oid = 'market_data.btc_ticks'::regclass
), named AS (
    SELECT format('ingestion.%I', $1::text) AS name
), options AS (
    SELECT a.attname, a.attnum, a.attstattarget,
           (SELECT string_agg(option, ', ') FROM unnest(a.attoptions) AS option
             WHERE option LIKE 'n\_distinct%') AS distinct_options
      FROM pg_attribute a JOIN root r ON r.oid = a.attrelid
     WHERE a.attnum > 0 AND NOT a.attisdropped
), statements AS (
    -- LIKE copies neither storage options, the tablespace nor statistics targets. The CHECK ensures that no row lies
    -- outside the chunk: TimescaleDB 2.19 does not check that.
    SELECT 0 AS place, format(
               'CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED
                                 INCLUDING STORAGE INCLUDING COMPRESSION,
                                 CONSTRAINT within_chunk
                                     CHECK (bucket_5m >= timestamptz %L AND bucket_5m < timestamptz %L)) %s %s',
               n.name, r.oid::regclass, $2::timestamptz, $3::timestamptz,
               'WITH (' || array_to_string(r.reloptions, ', ') || ')',
               'TABLESPACE ' || (SELECT quote_ident(t.spcname) FROM pg_tablespace t WHERE t.oid = r.reltablespace))
           AS statement
      FROM root r CROSS JOIN named n
    UNION ALL
    SELECT o.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', n.name, o.attname, o.attstattarget)
      FROM options o CROSS JOIN named n WHERE o.attstattarget <> -1 OR o.distinct_options IS NOT NULL
    UNION ALL
    SELECT o.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', n.name, o.attname, o.distinct_options)
      FROM options o CROSS JOIN named n WHERE o.distinct_options IS NOT NULL
)
SELECT json_agg(statement ORDER BY place)::text FROM statements
