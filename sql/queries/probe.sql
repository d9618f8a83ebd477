-- Whether a batch meets stored ticks within the id ranges of its runs: in their own bucket, or in the bucket before or behind it (event time in one
-- feed, trade time in another). Compares id ranges through the primary key; $5 and $6 bound the buckets so that only
-- their chunks are planned.
SELECT json_build_object(
    'own', coalesce(bool_or(own), false),
    'near', coalesce(bool_or(near), false)
)::text
FROM (
    SELECT EXISTS (SELECT FROM market_data.btc_ticks t
                    WHERE t.bucket_5m = r.bucket AND t.symbol = r.symbol
                      AND t.trade_id BETWEEN r.first_id AND r.last_id
                      AND t.bucket_5m BETWEEN $5 AND $6) AS own,
           EXISTS (SELECT FROM market_data.btc_ticks t
                    WHERE t.bucket_5m = r.bucket - interval '5 minutes' AND t.symbol = r.symbol
                      AND t.trade_id BETWEEN r.first_id AND r.last_id
                      AND t.bucket_5m BETWEEN $5 - interval '5 minutes' AND $6)
           OR EXISTS (SELECT FROM market_data.btc_ticks t
                    WHERE t.bucket_5m = r.bucket + interval '5 minutes' AND t.symbol = r.symbol
                      AND t.trade_id BETWEEN r.first_id AND r.last_id
                      AND t.bucket_5m BETWEEN $5 AND $6 + interval '5 minutes') AS near
      FROM unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::bigint[])
           AS r (bucket, symbol, first_id, last_id)
) AS runs
