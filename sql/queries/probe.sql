-- Whether a batch meets stored ticks within the id ranges of its runs: in the same bucket, or in the bucket before or
-- after it (event time in one feed, trade time in another). It compares id ranges by the primary key. $1: buckets,
-- $2: symbols, $3 and $4: first and last ids of the runs, $5 and $6: first and last bucket, so that only their chunks
-- are planned.
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
