-- Pending objects that hold ticks of dropped ranges which are wanted back, the oldest ticks first; without those whose
-- prefix waits for S3, and those that a backfill loads. $1: asset, $2 and $3: start and end (exclusive) of what is to
-- come back, $4: only objects under this prefix, which waits for S3 (null: none that waits), $5: objects at most.
SELECT coalesce(json_agg(f.s3_uri ORDER BY f.first, f.s3_uri), '[]')::text
  FROM (SELECT o.s3_uri, min(s.bucket_5m) AS first
          FROM ops.dropped_ranges d
          JOIN ingestion.object_slices s
            ON s.asset = d.asset AND s.bucket_5m >= d.from_time AND s.bucket_5m < d.to_time
          JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
         WHERE d.asset = $1 AND d.from_time < $3 AND d.to_time > $2 AND d.wanted_at IS NOT NULL
           AND d.restored_at IS NULL AND o.status = 'pending' AND o.backfill IS NULL
           AND CASE WHEN $4::text IS NULL
                    THEN NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t
                                                     WHERE t.ended_at IS NULL))
                    ELSE o.s3_uri ^@ $4 END
         GROUP BY o.s3_uri ORDER BY first, o.s3_uri LIMIT $5) AS f
