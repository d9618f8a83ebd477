-- Slices that are loaded and whose chunk does not exist, per asset and gap between chunks: the first and the last slice
-- of each, found by the index, so that it takes no longer if many are gone. (Without OFFSET 0, the planner would expect
-- hardly any row whose object is loaded, and read all.) What is recorded as dropped is left out. to_bucket is
-- exclusive; retained says whether chunks exist behind the gap only, as retention leaves it.
WITH RECURSIVE assets AS (
    (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
    UNION ALL
    SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
      FROM assets a WHERE a.asset IS NOT NULL
), chunks AS (
    SELECT c.range_start, c.range_end FROM timescaledb_information.chunks c
     WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
), gaps AS (
    SELECT coalesce(lag(c.range_end) OVER (ORDER BY c.range_start), '-infinity') AS gap_from, c.range_start AS gap_to
      FROM chunks c
    UNION ALL
    SELECT coalesce(max(c.range_end), '-infinity'), 'infinity' FROM chunks c
), unknown AS (
    SELECT a.asset, lower(p.piece) AS gap_from, upper(p.piece) AS gap_to,
           g.gap_from = '-infinity' AND g.gap_to < 'infinity' AS retained
      FROM assets a CROSS JOIN gaps g
     CROSS JOIN LATERAL unnest(
         CASE WHEN g.gap_from < g.gap_to THEN tstzmultirange(tstzrange(g.gap_from, g.gap_to)) ELSE '{}' END
         - coalesce((SELECT range_agg(tstzrange(d.from_time, d.to_time)) FROM ops.dropped_ranges d
                      WHERE d.asset = a.asset AND d.restored_at IS NULL), '{}')) AS p (piece)
)
SELECT coalesce(json_agg(json_build_object(
           'asset', g.asset, 'from_bucket', to_char(f.bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI+00'),
           'to_bucket', to_char((l.bucket_5m + interval '5 minutes') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI+00'),
           'uris', json_build_array(f.s3_uri, l.s3_uri),
           'retained', g.retained) ORDER BY f.bucket_5m, g.asset), '[]')::text
  FROM unknown g
 CROSS JOIN LATERAL (
    SELECT c.bucket_5m, c.s3_uri
      FROM (SELECT s.bucket_5m, s.s3_uri, s.etag FROM ingestion.object_slices s
             WHERE s.asset = g.asset AND s.bucket_5m >= g.gap_from AND s.bucket_5m < g.gap_to
             ORDER BY s.bucket_5m OFFSET 0) AS c
     WHERE c.etag = (SELECT o.etag FROM ingestion.objects o WHERE o.s3_uri = c.s3_uri AND o.loaded_at IS NOT NULL)
     LIMIT 1) AS f
 CROSS JOIN LATERAL (
    SELECT c.bucket_5m, c.s3_uri
      FROM (SELECT s.bucket_5m, s.s3_uri, s.etag FROM ingestion.object_slices s
             WHERE s.asset = g.asset AND s.bucket_5m >= g.gap_from AND s.bucket_5m < g.gap_to
             ORDER BY s.bucket_5m DESC OFFSET 0) AS c
     WHERE c.etag = (SELECT o.etag FROM ingestion.objects o WHERE o.s3_uri = c.s3_uri AND o.loaded_at IS NOT NULL)
     LIMIT 1) AS l
