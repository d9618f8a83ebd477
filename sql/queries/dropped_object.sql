-- Whether the loaded version of an object holds ticks of dropped ranges only, which no role wants back. $1: uri.
SELECT coalesce(bool_and(EXISTS (
           SELECT FROM ops.dropped_ranges d
            WHERE d.asset = s.asset AND d.from_time <= s.bucket_5m AND d.to_time > s.bucket_5m
              AND d.restored_at IS NULL AND d.wanted_at IS NULL)), false)::text
  FROM ingestion.objects o JOIN ingestion.object_slices s ON s.s3_uri = o.s3_uri AND s.etag = o.etag
 WHERE o.s3_uri = $1
