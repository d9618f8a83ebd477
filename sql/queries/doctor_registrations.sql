-- Registry rows of objects that hold ticks, but none of the row's bucket and asset. $1: rows to count at most.
WITH misfits AS (
    SELECT b.bucket_5m, b.asset, b.s3_uri
      FROM landing.raw_blobs_5m b
     WHERE b.status = 'empty' AND EXISTS (SELECT FROM ingestion.object_slices s WHERE s.s3_uri = b.s3_uri)
     LIMIT $1
)
SELECT json_build_object(
    'rows', (SELECT count(*) FROM misfits),
    'examples', (SELECT string_agg(format('%s %s (%s)', m.asset, m.bucket_5m, m.s3_uri), ', ')
                   FROM (SELECT * FROM misfits m ORDER BY m.bucket_5m, m.asset LIMIT 3) AS m)
)::text
