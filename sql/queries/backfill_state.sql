-- What a worker must know of its backfill before it takes more work. Times are in microseconds since 1970, as far as
-- bigint goes. $1: backfill.
SELECT json_build_object(
    'status', b.status, 'mode', b.mode, 'prefixes', b.prefixes, 'parallel', b.parallel, 'force', b.force,
    'from', CASE WHEN isfinite(b.from_time) THEN
                least(extract(epoch FROM b.from_time) * 1000000, 9223372036854775807)::bigint END,
    'to', CASE WHEN isfinite(b.to_time) THEN
              least(extract(epoch FROM b.to_time) * 1000000, 9223372036854775807)::bigint END,
    'state', b.state,
    -- The text before the first placeholder, and a prefix that waits for S3, may each begin with the other.
    'waits_for_s3', EXISTS (SELECT FROM ingestion.outages t
                             CROSS JOIN LATERAL (SELECT split_part(p, '{', 1) AS text FROM unnest(b.prefixes) AS p) AS p
                             WHERE t.ended_at IS NULL AND (p.text ^@ t.prefix OR t.prefix ^@ p.text)),
    'interval', (SELECT d.interval_length FROM _timescaledb_catalog.hypertable h
                   JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
                  WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks' AND d.interval_length IS NOT NULL
                  ORDER BY d.id LIMIT 1)
)::text
  FROM ingestion.backfills b
 WHERE b.id = $1
