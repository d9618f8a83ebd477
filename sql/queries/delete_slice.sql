-- Deletes the ticks of a slice, and returns their number. $1: asset, $2: a time in the bucket.
WITH deleted AS (
    DELETE FROM market_data.btc_ticks
     WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND symbol = $1
    RETURNING 1
)
SELECT count(*)::text FROM deleted
