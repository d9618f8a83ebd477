-- How many ticks of the batch are stored, per slice, and how many of these with other values. A null on either side
-- differs from no value. $1 and $2: first and last bucket.
SELECT coalesce(json_agg(json_build_object('bucket', (extract(epoch FROM c.bucket_5m) * 1000000)::bigint,
                                           'asset', c.symbol, 'stored', c.stored, 'differing', c.differing)),
                '[]')::text
  FROM (
    SELECT i.bucket_5m, i.symbol, count(*) AS stored,
           count(*) FILTER (WHERE (t.price <> i.price) IS TRUE OR (t.quantity <> i.quantity) IS TRUE
                               OR (t.trade_time <> i.trade_time) IS TRUE
                               OR (t.is_market_maker <> i.is_market_maker) IS TRUE) AS differing
      FROM incoming_ticks i
      JOIN market_data.btc_ticks t
        ON t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
     WHERE t.bucket_5m BETWEEN $1 AND $2
     GROUP BY i.bucket_5m, i.symbol
  ) AS c
