-- Attempts that did not take place, of the uris in $1. Not of a row that somebody holds: a process that ends cannot wait for him.
UPDATE ingestion.objects
   SET attempts = greatest(attempts - 1, 0), attempt_started_at = NULL
 WHERE s3_uri IN (SELECT o.s3_uri FROM ingestion.objects o
                   WHERE o.s3_uri = ANY ($1) AND o.status = 'pending' AND o.attempt_started_at IS NOT NULL
                     FOR UPDATE SKIP LOCKED)
