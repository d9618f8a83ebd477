-- Pending chunks of a backfill, the earliest first, in microseconds since 1970. $1: backfill, $2: chunks at most.
SELECT coalesce(json_agg(json_build_object('from', (extract(epoch FROM c.chunk_from) * 1000000)::bigint,
                                           'to', (extract(epoch FROM c.chunk_to) * 1000000)::bigint)
                         ORDER BY c.chunk_from), '[]')::text
  FROM (SELECT chunk_from, chunk_to FROM ingestion.backfill_chunks WHERE backfill = $1 AND status = 'pending'
         ORDER BY chunk_from LIMIT $2) AS c
