-- The next chunk of backfill $1 whose continuous aggregates are to be refreshed, and that its try has begun; after $2 tries it is
-- written down and left.
UPDATE ingestion.backfill_chunks c
   SET attempts = c.attempts + 1,
       refresh_due = c.attempts < $2,
       note = CASE WHEN c.attempts < $2 THEN c.note
              ELSE concat_ws('; ', c.note, 'its continuous aggregates could not be refreshed: CALL refresh_continuous_aggregate(…, force => true) over it') END
 WHERE c.backfill = $1
   AND c.chunk_from = (SELECT chunk_from FROM ingestion.backfill_chunks WHERE backfill = $1 AND refresh_due ORDER BY chunk_from LIMIT 1)
RETURNING json_build_object('chunk', CASE WHEN refresh_due THEN c.chunk_from::text END)::text
