-- Adds labels to windows. A label that is there stays. $1: buckets, $2: exchanges, $3: assets, $4: labels as JSON, $5:
-- end of the longest horizon.
UPDATE signals.btc_embeddings e
   SET label_snapshot = g.labels::jsonb || coalesce(e.label_snapshot, '{}'),
       labelled_to = greatest(e.labelled_to, g.until)
  FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
       AS g (bucket, exchange, asset, labels, until)
 WHERE e.bucket = g.bucket AND e.exchange = g.exchange AND e.asset = g.asset
   AND coalesce(e.label_snapshot, '{}') IS DISTINCT FROM g.labels::jsonb || coalesce(e.label_snapshot, '{}')
RETURNING 1
