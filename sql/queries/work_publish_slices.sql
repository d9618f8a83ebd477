-- Publishes the staged slices of a unit. $1: token, $2: parts that count, or null for all.
INSERT INTO ops.slice_digests (kind, asset, bucket_5m, ticks, first_trade_id, last_trade_id, missing_ids, conflicts,
                               quantity, amount, digest, objects, problem, unit)
SELECT u.kind, u.asset, s.bucket_5m, s.ticks, s.first_trade_id, s.last_trade_id, s.missing_ids, s.conflicts, s.quantity,
       s.amount, s.digest, s.objects, s.problem, u.id
  FROM ingestion.work_units u
  JOIN ingestion.staged_slices s ON s.token = u.token
 WHERE u.token = $1 AND ($2::uuid[] IS NULL OR s.part = ANY ($2))
