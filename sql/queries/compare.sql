-- How many ticks of the batch are stored, and how many of these with other values. A null on either side differs from
-- no value. $1 and $2: first and last bucket.
SELECT json_build_object(
    'stored', count(*),
    'differing', count(*) FILTER (WHERE (t.price <> i.price) IS TRUE OR (t.quantity <> i.quantity) IS TRUE
                                     OR (t.trade_time <> i.trade_time) IS TRUE
                                     OR (t.is_market_maker <> i.is_market_maker) IS TRUE)
)::text
  FROM incoming_ticks i
  JOIN market_data.btc_ticks t
    ON t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
 WHERE t.bucket_5m BETWEEN $1 AND $2
