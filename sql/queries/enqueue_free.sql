-- Those uris that have no object yet, or whose object no other session holds; the objects are locked. $1: uris.
SELECT coalesce(json_agg(u.uri), '[]')::text
  FROM unnest($1::text[]) AS u (uri)
 WHERE NOT EXISTS (SELECT FROM ingestion.objects o WHERE o.s3_uri = u.uri)
    OR EXISTS (SELECT FROM (SELECT FROM ingestion.objects o WHERE o.s3_uri = u.uri FOR UPDATE SKIP LOCKED) AS free)
