-- Registry rows that are not enqueued yet; they are locked. It leaves a row that its producer holds for the next
-- time. The etag and the size that a producer registers save a request to S3. $1: rows at most.
SELECT coalesce(json_agg(json_build_object('uri', f.s3_uri, 'bucket', f.bucket_5m::text, 'asset', f.asset,
                                           'etag', f.metadata ->> 'etag', 'size', f.object_size_bytes,
                                           'metadata', f.metadata)), '[]')::text
  FROM (SELECT p.* FROM landing.raw_blobs_5m p
         WHERE p.status = 'pending' AND p.queued_at IS NULL
         ORDER BY p.bucket_5m, p.asset
         LIMIT $1
           FOR UPDATE SKIP LOCKED) AS f
