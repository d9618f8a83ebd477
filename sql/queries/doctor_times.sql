-- Stored ticks outside the plausible times. The ranges of the chunks are read first. Ticks are looked for only on a
-- side on which a chunk reaches beyond the plausible times, and only by their bucket, by which the chunks are made.
-- $1: the first plausible bucket. $2: the last one. $3: how many ticks are counted on each side.
WITH reach AS (
    SELECT coalesce(min(c.range_start) < $1, false) AS early,
           coalesce(max(c.range_end) > $2, false) AS late
      FROM timescaledb_information.chunks c
     WHERE (c.hypertable_schema, c.hypertable_name) = ('market_data', 'btc_ticks')
), early AS MATERIALIZED (
    SELECT t.bucket_5m FROM market_data.btc_ticks t
     WHERE t.bucket_5m < $1 AND (SELECT r.early FROM reach r) LIMIT $3
), late AS MATERIALIZED (
    SELECT t.bucket_5m FROM market_data.btc_ticks t
     WHERE t.bucket_5m > $2 AND (SELECT r.late FROM reach r) LIMIT $3
), early_objects AS (
    SELECT DISTINCT s.s3_uri FROM ingestion.object_slices s
     WHERE s.bucket_5m < $1 AND EXISTS (SELECT FROM early) LIMIT 3
), late_objects AS (
    SELECT DISTINCT s.s3_uri FROM ingestion.object_slices s
     WHERE s.bucket_5m > $2 AND EXISTS (SELECT FROM late) LIMIT 3
)
SELECT json_build_object(
    'early', (SELECT json_build_object(
                         'ticks', count(*), 'extreme', min(e.bucket_5m)::text,
                         'border', $1::text,
                         'objects', (SELECT string_agg(o.s3_uri, ', ') FROM early_objects o))
                FROM early e HAVING count(*) > 0),
    'late', (SELECT json_build_object(
                        'ticks', count(*), 'extreme', max(l.bucket_5m)::text,
                        'border', $2::text,
                        'objects', (SELECT string_agg(o.s3_uri, ', ') FROM late_objects o))
               FROM late l HAVING count(*) > 0)
)::text
