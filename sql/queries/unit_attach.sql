-- Makes the filled table a chunk, as the tables' owner. Returns the statement that removes the CHECK that only the
-- plain table needs. $1: oid of the table, $2 and $3: start and end of the chunk in microseconds since 1970.
SELECT to_json(format('ALTER TABLE %I.%I DROP CONSTRAINT within_chunk', c.schema_name, c.table_name))::text
  FROM _timescaledb_functions.create_chunk(
           'market_data.btc_ticks'::regclass,
           jsonb_build_object('bucket_5m', jsonb_build_array($2::bigint, $3::bigint)),
           chunk_table => $1::bigint::oid::regclass) c
