-- Records the end of a listing. Returns no row if another session holds the row: it must not wait. $1: prefix, $2:
-- result, $3: changes of the state, $4: whether the listing was a full one.
UPDATE ingestion.stream_offsets
   SET state = state || $3 || jsonb_build_object('last', $2 || jsonb_build_object('at', clock_timestamp()))
               || CASE WHEN $4 THEN jsonb_build_object('full_at', clock_timestamp()) ELSE '{}' END,
       updated_at = clock_timestamp()
 WHERE source IN (SELECT w.source FROM ingestion.stream_offsets w
                   WHERE w.source = 'watch:' || $1 FOR UPDATE SKIP LOCKED)
RETURNING 'true'
