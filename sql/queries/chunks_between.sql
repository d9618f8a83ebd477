-- The times of the chunks that overlap a range of buckets, the interval of those that are made next, how many indexes
-- each has, and how many chunks there may be of the same time: one, unless the hypertable has further dimensions. Of
-- a dimension that is no hash, it is not known how many chunks are made next. $1 and $2: first and last bucket in
-- microseconds since 1970.
SELECT json_build_object(
    'interval', d.interval_length,
    'beside', (SELECT coalesce(round(exp(sum(ln(greatest(o.num_slices, o.slices, 1))))), 1)
                 FROM (SELECT f.num_slices, (SELECT count(*) FROM _timescaledb_catalog.dimension_slice s
                                              WHERE s.dimension_id = f.id) AS slices
                         FROM _timescaledb_catalog.dimension f
                        WHERE f.hypertable_id = h.id AND f.id <> d.id) AS o),
    'indexes', (SELECT count(*) FROM pg_catalog.pg_index i
                 WHERE i.indrelid = format('%I.%I', h.schema_name, h.table_name)::regclass),
    'existing', (SELECT coalesce(json_agg(json_build_array(s.range_start, s.range_end) ORDER BY s.range_start), '[]')
                   FROM (SELECT DISTINCT s.range_start, s.range_end
                           FROM _timescaledb_catalog.dimension_slice s
                          WHERE s.dimension_id = d.id AND s.range_end > $1 AND s.range_start <= $2) AS s)
)::text
  FROM _timescaledb_catalog.hypertable h
  JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
 WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks' AND d.interval_length IS NOT NULL
 ORDER BY d.id
 LIMIT 1
