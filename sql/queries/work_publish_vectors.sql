-- Publishes the staged vectors of a unit, unless another program has written the row. $1: token, $2: parts that count,
-- or null for all.
INSERT INTO signals.btc_embeddings AS e (bucket, exchange, asset, feature_vector, feature_version, ticks)
SELECT s.bucket_5m, coalesce(s.exchange, 'unknown'), u.asset, s.feature_vector, coalesce(s.feature_version, 'external'),
       s.ticks
  FROM ingestion.work_units u
  JOIN ingestion.staged_slices s ON s.token = u.token
 WHERE u.token = $1 AND ($2::uuid[] IS NULL OR s.part = ANY ($2)) AND s.feature_vector IS NOT NULL
    ON CONFLICT (bucket, exchange, asset) DO UPDATE
       SET feature_vector = excluded.feature_vector, ticks = excluded.ticks
     WHERE e.feature_version = excluded.feature_version
RETURNING 1
