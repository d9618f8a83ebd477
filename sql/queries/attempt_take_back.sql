-- Takes back attempts that did not take place. It leaves rows that another session holds, because a process that is
-- ending cannot wait. $1: uris.
UPDATE ingestion.objects
   SET attempts = greatest(attempts - 1, 0), attempt_started_at = NULL
 WHERE s3_uri IN (SELECT o.s3_uri FROM ingestion.objects o
                   WHERE o.s3_uri = ANY ($1) AND o.status = 'pending' AND o.attempt_started_at IS NOT NULL
                     FOR UPDATE SKIP LOCKED)
