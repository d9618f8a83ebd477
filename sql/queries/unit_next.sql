-- Units of backfill $1 that are not done, the earliest first, with the microseconds of their chunks.
SELECT coalesce(json_agg(json_build_object('from', (extract(epoch FROM chunk_from) * 1000000)::bigint,
                                           'to', (extract(epoch FROM chunk_to) * 1000000)::bigint) ORDER BY chunk_from), '[]')::text
  FROM ingestion.backfill_chunks WHERE backfill = $1 AND status = 'pending'
