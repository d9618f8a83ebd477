-- Deletes the ticks of a slice, and what is recorded of them. Returns the number of ticks, and when the slice was
-- loaded first. $1: asset, $2: a time in the bucket.
WITH deleted AS (
    DELETE FROM market_data.btc_ticks
     WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND symbol = $1
    RETURNING 1
), forgotten AS (
    DELETE FROM ingestion.object_slices
     WHERE bucket_5m = date_bin('5 minutes', $2, 'epoch'::timestamptz) AND asset = $1
    RETURNING coalesce(first_seen, loaded_at) AS first_seen
)
SELECT json_build_object('ticks', (SELECT count(*) FROM deleted),
                         'first_seen', (SELECT extract(epoch FROM min(first_seen)) * 1000000 FROM forgotten)::bigint
       )::text
