-- Deletes the ticks of a slice, and what is recorded of them, and returns the number of ticks. $1: asset, $2: a time in
-- the bucket.
WITH deleted AS (
    DELETE FROM market_data.btc_ticks
     WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND symbol = $1
    RETURNING 1
), forgotten AS (
    DELETE FROM ingestion.object_slices
     WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND asset = $1
)
SELECT count(*)::text FROM deleted
