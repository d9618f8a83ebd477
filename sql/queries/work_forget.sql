-- Deletes units with their published digests and candles, and returns how many. $1: kind, $2 and $3: range that holds
-- them.
WITH units AS (
    DELETE FROM ingestion.work_units u WHERE u.kind = $1 AND u.from_time >= $2 AND u.to_time <= $3
    RETURNING u.id, u.kind, u.asset, u.from_time, u.to_time
), slices AS (
    DELETE FROM ops.slice_digests d USING units u
     WHERE d.kind = u.kind AND d.asset = u.asset AND d.bucket_5m >= u.from_time AND d.bucket_5m < u.to_time
), candles AS (
    DELETE FROM ops.slice_candles c USING units u
     WHERE c.kind = u.kind AND c.asset = u.asset AND c.minute >= u.from_time AND c.minute < u.to_time
)
SELECT count(*)::text FROM units
