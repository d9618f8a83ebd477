-- Gives the rows of btc_ingest's own vectors the exchange that their slices have now, with their labels. $1: buckets,
-- $2: assets, $3: exchanges.
UPDATE signals.btc_embeddings e SET exchange = g.exchange
  FROM unnest($1::timestamptz[], $2::text[], $3::text[]) AS g (bucket, asset, exchange)
 WHERE e.bucket = g.bucket AND e.asset = g.asset AND e.exchange <> g.exchange AND e.feature_version ^@ 'btc_ingest '
   AND NOT EXISTS (SELECT FROM signals.btc_embeddings o
                    WHERE o.bucket = g.bucket AND o.exchange = g.exchange AND o.asset = g.asset)
