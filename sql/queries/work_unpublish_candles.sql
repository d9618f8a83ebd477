-- Deletes the candles that were published for the unit before. $1: token.
DELETE FROM ops.slice_candles c
 USING ingestion.work_units u
 WHERE u.token = $1 AND c.kind = u.kind AND c.asset = u.asset AND c.minute >= u.from_time AND c.minute < u.to_time
