-- The stored ticks of some assets, in any order. $1 and $2: first bucket and end (exclusive), $3: assets.
SELECT bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id, seller_order_id,
       is_market_maker
  FROM market_data.btc_ticks
 WHERE bucket_5m >= $1 AND bucket_5m < $2 AND symbol = ANY ($3)
