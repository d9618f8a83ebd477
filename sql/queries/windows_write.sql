-- Stores vectors, unless another program has written the row. {vector}: the schema of pgvector. $1: buckets, $2:
-- assets, $3: exchanges, $4: ticks, $5: the numbers of all vectors, $6: numbers of one vector, $7: feature version.
INSERT INTO signals.btc_embeddings AS e (bucket, exchange, feature_vector, asset, feature_version, ticks)
SELECT g.bucket, g.exchange, ($5::real[])[(g.place - 1) * $6 + 1 : g.place * $6]::{vector}.vector, g.asset, $7, g.ticks
  FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[])
       WITH ORDINALITY AS g (bucket, asset, exchange, ticks, place)
    ON CONFLICT (bucket, exchange, asset) DO UPDATE
       SET feature_vector = excluded.feature_vector, feature_version = excluded.feature_version, ticks = excluded.ticks
     WHERE e.feature_version ^@ 'btc_ingest '
       AND (e.feature_version <> excluded.feature_version OR e.ticks IS DISTINCT FROM excluded.ticks
            OR e.feature_vector IS NULL OR e.feature_vector OPERATOR({vector}.<>) excluded.feature_vector)
RETURNING 1
