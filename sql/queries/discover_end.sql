-- What a listing of watch $1 came to ($2), which of its state changes with that ($3), and whether it was a full one ($4).
-- Waits for nobody: nothing is returned where somebody holds the row.
UPDATE ingestion.stream_offsets
   SET state = state || $3 || jsonb_build_object('last', $2 || jsonb_build_object('at', clock_timestamp()))
               || CASE WHEN $4 THEN jsonb_build_object('full_at', clock_timestamp()) ELSE '{}' END,
       updated_at = clock_timestamp()
 WHERE source IN (SELECT w.source FROM ingestion.stream_offsets w WHERE w.source = 'watch:' || $1 FOR UPDATE SKIP LOCKED)
RETURNING 'true'
