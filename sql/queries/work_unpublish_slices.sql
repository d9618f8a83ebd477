-- Deletes the digests that were published for the unit before. $1: token.
DELETE FROM ops.slice_digests d
 USING ingestion.work_units u
 WHERE u.token = $1 AND d.kind = u.kind AND d.asset = u.asset AND d.bucket_5m >= u.from_time AND d.bucket_5m < u.to_time
