-- The last tick of a symbol with a price in a range of event time. $1: symbol, $2 and $3: both ends of the range.
SELECT t.event_time, t.trade_id, t.price, NULL::numeric, NULL::boolean
  FROM market_data.btc_ticks t
 WHERE t.symbol = $1 AND t.event_time >= $2 AND t.event_time <= $3 AND t.price IS NOT NULL
   AND t.bucket_5m >= date_bin('5 minutes', $2, '1970-01-01 00:00:00+00') AND t.bucket_5m <= $3
 ORDER BY t.event_time DESC, t.trade_id DESC LIMIT 1
