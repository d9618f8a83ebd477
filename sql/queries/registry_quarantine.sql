-- Quarantines a registry row that cannot be enqueued, and its object unless the object is known already. A uri that is
-- too long for an object is in the history only. $1: bucket, $2: asset, $3: SQLSTATE, $4: message.
WITH refused AS (
    UPDATE landing.raw_blobs_5m SET status = 'quarantined', queued_at = clock_timestamp()
     WHERE bucket_5m = $1 AND asset = $2
    RETURNING asset, bucket_5m,
              CASE WHEN octet_length(s3_uri) <= 1100 THEN s3_uri ELSE left(s3_uri, 200) END AS s3_uri,
              octet_length(s3_uri) <= 1100 AS fits
), noted AS (
    INSERT INTO ingestion.load_history (s3_uri, outcome, sqlstate, message, started_at, finished_at)
    SELECT s3_uri, 'quarantined', $3, $4, clock_timestamp(), clock_timestamp() FROM refused
)
INSERT INTO ingestion.objects (s3_uri, status, last_sqlstate, last_error, asset, span_from)
SELECT s3_uri, 'quarantined', $3, $4, left(asset, 255), bucket_5m FROM refused WHERE fits
ON CONFLICT (s3_uri) DO NOTHING
