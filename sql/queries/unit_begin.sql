-- Counts an attempt to build a chunk, or leaves the chunk to the objects after too many attempts. $1: backfill, $2:
-- start of the chunk, $3: attempts at most.
UPDATE ingestion.backfill_chunks
   SET attempts = attempts + 1,
       status = CASE WHEN attempts < $3 THEN status ELSE 'objects' END,
       note = CASE WHEN attempts < $3 THEN note
              ELSE format('%s attempts ended without a chunk; see the server''s log', attempts) END
 WHERE backfill = $1 AND chunk_from = $2 AND status = 'pending'
RETURNING to_json(status)::text
