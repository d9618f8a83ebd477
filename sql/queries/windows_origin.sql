-- The vector of a window, and what made it. Of several, btc_ingest's own. $1: bucket, $2: asset.
SELECT json_build_object('numbers', e.feature_vector::real[], 'version', e.feature_version)::text
  FROM signals.btc_embeddings e
 WHERE e.bucket = $1 AND e.asset = $2 AND e.feature_vector IS NOT NULL
 ORDER BY NOT e.feature_version ^@ 'btc_ingest ', e.exchange LIMIT 1
