-- Objects that have failed or are quarantined, by their SQLSTATE and with an example; and registry rows that were
-- quarantined before there was an object, with their first bucket and asset. $1: rows to look at, for each of the
-- three.
WITH failed AS (
    SELECT coalesce(o.last_sqlstate, '?') AS sqlstate, count(*) AS objects
      FROM (SELECT last_sqlstate FROM ingestion.objects WHERE status = 'failed' LIMIT $1) AS o
     GROUP BY 1
), quarantined AS (
    SELECT coalesce(o.last_sqlstate, '?') AS sqlstate, count(*) AS objects, min(o.s3_uri) AS example
      FROM (SELECT last_sqlstate, s3_uri FROM ingestion.objects WHERE status = 'quarantined' LIMIT $1) AS o
     GROUP BY 1
), dead AS (
    SELECT b.bucket_5m, b.asset
      FROM landing.raw_blobs_5m b
     WHERE b.status = 'quarantined'
       AND NOT EXISTS (SELECT FROM ingestion.objects o WHERE o.s3_uri = b.s3_uri AND o.status = 'quarantined')
     LIMIT $1
)
SELECT json_build_object(
    'failed', (SELECT coalesce(sum(f.objects), 0) FROM failed f),
    'errors', (SELECT string_agg(format('%s ×%s', f.sqlstate, f.objects), ', ' ORDER BY f.objects DESC, f.sqlstate)
                 FROM failed f),
    'quarantined', (SELECT coalesce(json_agg(json_build_object(
                               'sqlstate', q.sqlstate, 'objects', q.objects, 'example', q.example,
                               'message', (SELECT o.last_error FROM ingestion.objects o WHERE o.s3_uri = q.example))
                           ORDER BY q.objects DESC, q.sqlstate), '[]') FROM quarantined q),
    'dead', (SELECT count(*) FROM dead),
    'dead_bucket', (SELECT d.bucket_5m::text FROM dead d ORDER BY d.bucket_5m, d.asset LIMIT 1),
    'dead_asset', (SELECT d.asset FROM dead d ORDER BY d.bucket_5m, d.asset LIMIT 1)
)::text
