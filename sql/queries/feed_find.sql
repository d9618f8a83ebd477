-- Up to $1 registry rows that no queue knows of yet, locked. A row that its producer holds is left for the next time, and so is
-- one whose object is being loaded, as that load may have read an earlier version, or whose object's row somebody holds. What a
-- producer says of etag and size spares the question to S3.
SELECT coalesce(json_agg(json_build_object('uri', f.s3_uri, 'bucket', f.bucket_5m::text, 'asset', f.asset,
                                           'etag', f.metadata ->> 'etag', 'size', f.object_size_bytes, 'metadata', f.metadata)), '[]')::text
  FROM (
    SELECT b.*
      FROM (SELECT p.* FROM landing.raw_blobs_5m p
             WHERE p.status = 'pending' AND p.queued_at IS NULL
             ORDER BY p.bucket_5m, p.asset
             LIMIT $1
               FOR UPDATE SKIP LOCKED) AS b
     WHERE pg_try_advisory_xact_lock(hashtextextended('btc_ingest.object:' || b.s3_uri, 0))
       AND (NOT EXISTS (SELECT FROM ingestion.objects o WHERE o.s3_uri = b.s3_uri)
            OR EXISTS (SELECT FROM (SELECT FROM ingestion.objects o WHERE o.s3_uri = b.s3_uri FOR UPDATE SKIP LOCKED) AS free))
  ) AS f
