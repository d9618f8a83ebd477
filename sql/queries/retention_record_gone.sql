-- Records loaded slices of an asset whose chunk does not exist as dropped: one row per chunk that they lay in. Slices
-- that are recorded already are left out. How many ticks are gone is known by their ids; without them, it is at least
-- the largest number of ticks of one object. Returns the ranges. $1: asset, $2 and $3: start and end (exclusive) of
-- what is looked at; chunks are recorded as a whole.
WITH width AS (
    SELECT make_interval(secs => d.interval_length / 1000000.0) AS step
      FROM _timescaledb_catalog.dimension d JOIN _timescaledb_catalog.hypertable h ON h.id = d.hypertable_id
     WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks' AND d.interval_length IS NOT NULL
), chunks AS (
    SELECT c.range_start, c.range_end FROM timescaledb_information.chunks c
     WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
), gaps AS (
    SELECT coalesce(lag(c.range_end) OVER (ORDER BY c.range_start), '-infinity') AS gap_from, c.range_start AS gap_to
      FROM chunks c
    UNION ALL
    SELECT coalesce(max(c.range_end), '-infinity'), 'infinity' FROM chunks c
), slices AS (
    SELECT greatest(date_bin(w.step, s.bucket_5m, '1970-01-01 00:00:00+00'), g.gap_from) AS from_time,
           least(date_bin(w.step, s.bucket_5m, '1970-01-01 00:00:00+00') + w.step, g.gap_to) AS to_time,
           s.bucket_5m, s.s3_uri, s.ticks, s.ids
      FROM width w CROSS JOIN gaps g
      JOIN ingestion.object_slices s
        ON s.asset = $1 AND s.bucket_5m >= g.gap_from AND s.bucket_5m < g.gap_to
       AND s.bucket_5m >= date_bin(w.step, $2::timestamptz, '1970-01-01 00:00:00+00')
       AND s.bucket_5m < date_bin(w.step, $3::timestamptz - interval '1 microsecond', '1970-01-01 00:00:00+00') + w.step
      JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag AND o.loaded_at IS NOT NULL
     WHERE NOT EXISTS (SELECT FROM ops.dropped_ranges d
                        WHERE d.asset = $1 AND d.restored_at IS NULL
                          AND d.from_time <= s.bucket_5m AND d.to_time > s.bucket_5m)
), counted AS (
    SELECT s.from_time, s.to_time, s.bucket_5m,
           greatest(max(s.ticks), CASE WHEN bool_and(s.ids IS NOT NULL) THEN
               (SELECT sum(upper(i.range) - lower(i.range)) FROM unnest(range_agg(s.ids)) AS i (range)) END) AS ticks
      FROM slices s GROUP BY s.from_time, s.to_time, s.bucket_5m
), recorded AS (
    INSERT INTO ops.dropped_ranges (asset, from_time, to_time, ticks, objects, job_name)
    SELECT $1, c.from_time, c.to_time, sum(c.ticks)::bigint,
           (SELECT count(DISTINCT s.s3_uri) FROM slices s WHERE s.from_time = c.from_time), 'by hand'
      FROM counted c GROUP BY c.from_time, c.to_time
    RETURNING from_time, to_time, ticks, objects
)
SELECT coalesce(json_agg(json_build_array(
           trunc((extract(epoch FROM r.from_time) - 946684800) * 1000000)::bigint,
           trunc((extract(epoch FROM r.to_time) - 946684800) * 1000000)::bigint, r.ticks, r.objects)
                         ORDER BY r.from_time), '[]')::text
  FROM recorded r
