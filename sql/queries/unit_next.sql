-- Pending chunks of a backfill, the earliest first, in microseconds since 1970. $1: backfill.
SELECT coalesce(json_agg(json_build_object('from', (extract(epoch FROM chunk_from) * 1000000)::bigint,
                                           'to', (extract(epoch FROM chunk_to) * 1000000)::bigint)
                         ORDER BY chunk_from), '[]')::text
  FROM ingestion.backfill_chunks WHERE backfill = $1 AND status = 'pending'
