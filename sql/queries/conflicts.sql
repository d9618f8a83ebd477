-- The first conflicts of the batch in file order, with the values of the object and those that are stored. $1 and $2:
-- first and last bucket, $3: rows at most.
SELECT i.row_number,
       format('%s %s in bucket %s is stored with price %s, quantity %s, trade_time %s, is_market_maker %s; '
              'the object has %s, %s, %s, %s',
              i.symbol, i.trade_id, t.bucket_5m, t.price, t.quantity, coalesce(t.trade_time::text, 'null'),
              coalesce(t.is_market_maker::text, 'null'), i.price, i.quantity, coalesce(i.trade_time::text, 'null'),
              coalesce(i.is_market_maker::text, 'null')) AS reason,
       to_jsonb(i) - 'row_number' AS row_data
  FROM incoming_ticks i
  JOIN market_data.btc_ticks t
    ON t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
 WHERE t.bucket_5m BETWEEN $1 AND $2
   AND ((t.price <> i.price) IS TRUE OR (t.quantity <> i.quantity) IS TRUE
        OR (t.trade_time <> i.trade_time) IS TRUE OR (t.is_market_maker <> i.is_market_maker) IS TRUE)
 ORDER BY i.row_number
 LIMIT $3
