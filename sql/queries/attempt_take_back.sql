-- Attempts that did not take place, of the uris in $1.
UPDATE ingestion.objects
   SET attempts = greatest(attempts - 1, 0), attempt_started_at = NULL
 WHERE s3_uri = ANY ($1) AND status = 'pending' AND attempt_started_at IS NOT NULL
