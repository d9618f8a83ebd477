-- A registry row that its producer made pending again, although this version of its object is loaded. $1: the uri.
UPDATE landing.raw_blobs_5m b
   SET status = 'loaded', loaded_at = now(), object_size_bytes = o.size_bytes,
       metadata = coalesce(b.metadata, '{}') || jsonb_build_object(
           'etag', o.etag, 'writer', o.metadata -> 'writer',
           'schema_fingerprint', o.metadata -> 'schema_fingerprint', 'row_count', o.metadata -> 'row_count')
  FROM ingestion.objects o
 WHERE b.s3_uri = $1 AND o.s3_uri = $1 AND b.status <> 'loaded'
