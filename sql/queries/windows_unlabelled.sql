-- Windows that lack one of the labels. $1 and $2: first bucket and end (exclusive), $3: names of the labels.
SELECT e.asset, e.bucket, e.exchange
  FROM signals.btc_embeddings e
 WHERE e.bucket >= $1 AND e.bucket < $2
   AND (e.label_snapshot IS NULL
        OR (jsonb_typeof(e.label_snapshot) = 'object' AND NOT jsonb_exists_all(e.label_snapshot, $3)))
 ORDER BY e.asset, e.bucket, e.exchange
