-- Marks the object's own registry rows as loaded if this version holds ticks of their bucket and asset, and as empty if
-- it holds none. It never sets s3_uri. Rows that their producer has made pending since the load began stay pending. $1:
-- uri, $2: etag, $3: size, $4: metadata of the load, $5: versions of the registry rows when the load began.
UPDATE landing.raw_blobs_5m b
   SET status = CASE WHEN EXISTS (SELECT FROM ingestion.object_slices s
                                   WHERE s.s3_uri = $1 AND s.etag = $2
                                     AND s.bucket_5m = b.bucket_5m AND s.asset = b.asset)
                     THEN 'loaded' ELSE 'empty' END,
       loaded_at = now(), object_size_bytes = $3,
       metadata = CASE WHEN jsonb_typeof(b.metadata) = 'object' THEN b.metadata ELSE '{}' END || $4,
       ingested_tick_span = (
           SELECT tsrange(s.first_event_time AT TIME ZONE 'UTC', s.last_event_time AT TIME ZONE 'UTC', '[]')
             FROM ingestion.object_slices s
            WHERE s.s3_uri = $1 AND s.etag = $2 AND s.bucket_5m = b.bucket_5m AND s.asset = b.asset)
 WHERE b.s3_uri = $1
   AND (b.status NOT IN ('loaded', 'empty') OR b.metadata ->> 'etag' IS DISTINCT FROM $2)
   AND (b.status <> 'pending' OR b.xmin::text = ANY ($5))
