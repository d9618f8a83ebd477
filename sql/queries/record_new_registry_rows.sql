-- Inserts a registry row for each bucket and asset of the object that has none yet. Rows of other objects stay as
-- they are; they are searched for first, because ON CONFLICT alone waits for a producer that holds one. Rows are
-- inserted in key order, so that two loads cannot deadlock. $1: uri, $2: etag, $3: size, $4: metadata of the load.
INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes, ingested_tick_span, metadata,
                                  status, loaded_at)
SELECT bucket_5m, asset, $1, $3,
       tsrange(first_event_time AT TIME ZONE 'UTC', last_event_time AT TIME ZONE 'UTC', '[]'), $4, 'loaded', now()
  FROM ingestion.object_slices s
 WHERE s3_uri = $1 AND etag = $2
   AND NOT EXISTS (SELECT FROM landing.raw_blobs_5m b WHERE b.bucket_5m = s.bucket_5m AND b.asset = s.asset)
 ORDER BY bucket_5m, asset
ON CONFLICT (bucket_5m, asset) DO NOTHING
