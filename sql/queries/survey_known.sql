-- The listed objects that need no load: loaded at the listed etag, or skipped. $1: uris, $2: etags, $3: whether loaded
-- objects are loaded again.
SELECT coalesce(json_agg(o.s3_uri), '[]')::text
  FROM unnest($1::text[], $2::text[]) AS l (uri, etag)
  JOIN ingestion.objects o ON o.s3_uri = l.uri
 WHERE (o.status = 'loaded' AND o.etag = l.etag AND NOT $3) OR o.status = 'skipped'
