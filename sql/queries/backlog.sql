-- The number of objects that wait for loaders: pending live objects, without those whose prefix waits for S3, and
-- registry rows that are not enqueued yet. $1: where to stop counting, for each of the two.
SELECT ((SELECT count(*) FROM (SELECT FROM ingestion.objects o
                                WHERE o.backfill IS NULL AND o.status = 'pending'
                                  AND NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t
                                                               WHERE t.ended_at IS NULL))
                                LIMIT $1) AS queued)
      + (SELECT count(*) FROM (SELECT FROM landing.raw_blobs_5m b
                                WHERE b.status = 'pending' AND b.queued_at IS NULL LIMIT $1) AS registered))::text
