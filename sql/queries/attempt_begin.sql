-- Burns an attempt before the load begins, so that an object that kills its backend is counted, too. Nothing: somebody
-- else has changed the object since it was claimed. $1 uri, $2 generation, $3 the most attempts there may be.
UPDATE ingestion.objects
   SET attempts = least(attempts + 1, $3 + 1), attempt_started_at = clock_timestamp()
 WHERE s3_uri = $1 AND generation = $2 AND status = 'pending'
RETURNING json_build_object('attempts', attempts, 'too_many', attempts > $3)::text
