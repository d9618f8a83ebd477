-- Plans the chunks that the objects of a backfill lie in, aligned as TimescaleDB aligns them. Objects with unknown
-- times are loaded object by object, and so are objects that reach over too many chunks: each chunk would read the
-- whole object again, and a single wrong time would plan thousands of chunks without a tick. So are objects in a chunk
-- that would begin before PostgreSQL's first time or end after TimescaleDB's last one. $1: backfill, $2: chunk interval
-- in microseconds, $3: chunks that an object may reach over.
INSERT INTO ingestion.backfill_chunks (backfill, chunk_from, chunk_to)
SELECT DISTINCT $1, to_timestamp(n * ($2::numeric / 1000000)), to_timestamp((n + 1) * ($2::numeric / 1000000))
  FROM (
    SELECT DISTINCT floor(extract(epoch FROM span_from) * 1000000 / $2)::bigint AS first,
           floor((extract(epoch FROM span_to) * 1000000 - 1) / $2)::bigint AS last
      FROM ingestion.objects
     WHERE backfill = $1 AND status IN ('pending', 'failed') AND isfinite(span_from) AND isfinite(span_to)
       AND (extract(epoch FROM span_to) - extract(epoch FROM span_from)) * 1000000 <= $3 * $2::numeric
  ) AS o, generate_series(o.first, o.last) AS n
 WHERE n * $2::numeric >= extract(epoch FROM timestamptz '4714-11-24 00:00:00+00 BC') * 1000000
   AND (n + 1) * $2::numeric <= extract(epoch FROM timestamptz '294247-01-01 00:00:00+00') * 1000000
ON CONFLICT DO NOTHING
