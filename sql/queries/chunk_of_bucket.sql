-- The chunk that holds a bucket, in catalogs with the table chunk_constraint. $1: microseconds since 1970.
SELECT json_build_object('oid', format('%I.%I', c.schema_name, c.table_name)::regclass::oid::bigint,
                         'from', s.range_start, 'to', s.range_end)::text
  FROM _timescaledb_catalog.hypertable h
  JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
  JOIN _timescaledb_catalog.dimension_slice s ON s.dimension_id = d.id
  JOIN _timescaledb_catalog.chunk_constraint k ON k.dimension_slice_id = s.id
  JOIN _timescaledb_catalog.chunk c ON c.id = k.chunk_id
 WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
   AND s.range_start <= $1 AND s.range_end > $1
   AND to_regclass(format('%I.%I', c.schema_name, c.table_name)) IS NOT NULL
