-- Plans the chunks that the objects of a backfill lie in, aligned as TimescaleDB aligns them. Objects with unknown
-- times are loaded object by object. $1: backfill, $2: chunk interval in microseconds.
INSERT INTO ingestion.backfill_chunks (backfill, chunk_from, chunk_to)
SELECT DISTINCT $1, to_timestamp(n * ($2::numeric / 1000000)), to_timestamp((n + 1) * ($2::numeric / 1000000))
  FROM (
    SELECT DISTINCT floor(extract(epoch FROM span_from) * 1000000 / $2)::bigint AS first,
           floor((extract(epoch FROM span_to) * 1000000 - 1) / $2)::bigint AS last
      FROM ingestion.objects
     WHERE backfill = $1 AND status IN ('pending', 'failed') AND isfinite(span_from) AND isfinite(span_to)
  ) AS o, generate_series(o.first, o.last) AS n
ON CONFLICT DO NOTHING
