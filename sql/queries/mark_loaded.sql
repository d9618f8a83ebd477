-- Marks an object as loaded, because this version of it is loaded already, and registry rows that their producer made
-- pending again as loaded or empty. Rows that were changed since stay pending. $1: uri, $2: versions of the registry
-- rows, $3: generation of the object when it was read.
WITH marked AS (
    UPDATE landing.raw_blobs_5m b
       SET status = CASE WHEN EXISTS (SELECT FROM ingestion.object_slices s
                                       WHERE s.s3_uri = $1 AND s.etag = o.etag
                                         AND s.bucket_5m = b.bucket_5m AND s.asset = b.asset)
                         THEN 'loaded' ELSE 'empty' END,
           loaded_at = now(), object_size_bytes = o.size_bytes,
           metadata = CASE WHEN jsonb_typeof(b.metadata) = 'object' THEN b.metadata ELSE '{}' END || jsonb_build_object(
               'etag', o.etag, 'writer', o.metadata -> 'writer',
               'schema_fingerprint', o.metadata -> 'schema_fingerprint', 'row_count', o.metadata -> 'row_count')
      FROM ingestion.objects o
     WHERE b.s3_uri = $1 AND o.s3_uri = $1 AND b.status NOT IN ('loaded', 'empty')
       AND (b.status <> 'pending' OR b.xmin::text = ANY ($2))
)
UPDATE ingestion.objects
   SET status = 'loaded', last_sqlstate = NULL, last_error = NULL, next_attempt_at = NULL, generation = generation + 1
 WHERE s3_uri = $1 AND status <> 'loaded' AND generation = $3
