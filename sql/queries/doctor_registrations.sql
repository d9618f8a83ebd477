-- Registry rows of objects that hold ticks, but none of the row's asset in its bucket or a neighbouring one: producers
-- may go by the time of the trade where loads go by that of the event. $1: rows to count at most.
WITH misfits AS (
    SELECT b.bucket_5m, b.asset, b.s3_uri
      FROM landing.raw_blobs_5m b
     WHERE b.status = 'empty' AND EXISTS (SELECT FROM ingestion.object_slices s WHERE s.s3_uri = b.s3_uri)
       AND NOT EXISTS (SELECT FROM ingestion.object_slices s
                        WHERE s.s3_uri = b.s3_uri AND s.asset = b.asset
                          AND s.bucket_5m BETWEEN b.bucket_5m - interval '5 minutes'
                                              AND b.bucket_5m + interval '5 minutes')
     LIMIT $1
)
SELECT json_build_object(
    'rows', (SELECT count(*) FROM misfits),
    'examples', (SELECT string_agg(format('%s %s (%s)', m.asset, m.bucket_5m, m.s3_uri), ', ')
                   FROM (SELECT * FROM misfits m ORDER BY m.bucket_5m, m.asset LIMIT 3) AS m)
)::text
