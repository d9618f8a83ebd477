-- The ticks of an asset by slice, in the order in which they happened. $1: asset, $2 and $3: first bucket and end
-- (exclusive).
SELECT t.bucket_5m, t.event_time, t.price, t.quantity, t.is_market_maker
  FROM market_data.btc_ticks t
 WHERE t.symbol = $1 AND t.bucket_5m >= $2 AND t.bucket_5m < $3 AND t.event_time >= $2 AND t.event_time < $3
 ORDER BY t.event_time, t.trade_id
