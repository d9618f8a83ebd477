-- The unfinished verification with these arguments; null if there is none. $1: asset, $2 and $3: times.
SELECT to_json(max(id))::text
  FROM ingestion.verifications
 WHERE asset = $1 AND from_time = $2 AND to_time = $3 AND status = 'running'
