-- Deletes the ticks of asset $1 in the bucket of $2, and returns how many there were.
WITH deleted AS (
    DELETE FROM market_data.btc_ticks
     WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND symbol = $1
    RETURNING 1
)
SELECT count(*)::text FROM deleted
