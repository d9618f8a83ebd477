-- The chunks of the hypertable that overlap a range of buckets, the interval of those that are made next, and how many
-- indexes each has. $1 and $2: first and last bucket in microseconds since 1970.
SELECT json_build_object(
    'interval', d.interval_length,
    'indexes', (SELECT count(*) FROM pg_catalog.pg_index i
                 WHERE i.indrelid = format('%I.%I', h.schema_name, h.table_name)::regclass),
    'existing', (SELECT coalesce(json_agg(json_build_array(s.range_start, s.range_end) ORDER BY s.range_start), '[]')
                   FROM _timescaledb_catalog.dimension_slice s
                  WHERE s.dimension_id = d.id AND s.range_end > $1 AND s.range_start <= $2)
)::text
  FROM _timescaledb_catalog.hypertable h
  JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
 WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks' AND d.interval_length IS NOT NULL
 ORDER BY d.id
 LIMIT 1
