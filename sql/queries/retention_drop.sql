-- The statements that drop a chunk, for the owner of the tables. Where TimescaleDB knows the setting, the chunk's range
-- does not get into the log of what aggregates are to compute again. $1 and $2: start and end (exclusive) of the chunk,
-- $3: its hypertable or continuous aggregate.
SELECT json_build_array(
    CASE WHEN EXISTS (SELECT FROM pg_settings s WHERE s.name = 'timescaledb.skip_cagg_invalidation')
         THEN 'SELECT set_config(''timescaledb.skip_cagg_invalidation'', ''on'', true)' ELSE 'SELECT 1' END,
    format('SELECT %I.drop_chunks(%L::regclass, older_than => %L::timestamptz, newer_than => %L::timestamptz)',
           n.nspname, $3::text, $2::timestamptz, $1::timestamptz))::text
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'
