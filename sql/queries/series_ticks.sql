-- Ticks of a symbol in the order in which they happened. $1: symbol, $2 and $3: first event time and end (exclusive).
SELECT t.event_time, t.trade_id, t.price, t.quantity, t.is_market_maker
  FROM market_data.btc_ticks t
 WHERE t.symbol = $1 AND t.event_time >= $2 AND t.event_time < $3
   AND t.bucket_5m >= date_bin('5 minutes', $2, '1970-01-01 00:00:00+00') AND t.bucket_5m < $3
 ORDER BY t.event_time, t.trade_id
