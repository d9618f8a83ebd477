-- Counts an attempt before the load begins, so that an object that ends its backend is counted too. Returns no row if
-- another session has changed the object since it was claimed, or holds its row. $1: uri, $2: generation.
UPDATE ingestion.objects
   SET attempts = attempts + 1, attempt_started_at = clock_timestamp()
 WHERE s3_uri = (SELECT o.s3_uri FROM ingestion.objects o
                  WHERE o.s3_uri = $1 AND o.generation = $2 AND o.status = 'pending'
                    FOR UPDATE SKIP LOCKED)
RETURNING to_json(attempts)::text
