-- Up to $1 registry rows that are not enqueued yet, locked. A row that its producer has locked is left for the next time. The
-- etag and the size that a producer registers spare a question to S3.
SELECT coalesce(json_agg(json_build_object('uri', f.s3_uri, 'bucket', f.bucket_5m::text, 'asset', f.asset,
                                           'etag', f.metadata ->> 'etag', 'size', f.object_size_bytes,
                                           'metadata', f.metadata)), '[]')::text
  FROM (SELECT p.* FROM landing.raw_blobs_5m p
         WHERE p.status = 'pending' AND p.queued_at IS NULL
         ORDER BY p.bucket_5m, p.asset
         LIMIT $1
           FOR UPDATE SKIP LOCKED) AS f
