-- For on_conflict => replace: replaces stored values by those of the object. Of several rows with the same key, the
-- last one counts. $1 and $2: first and last bucket.
UPDATE market_data.btc_ticks t
   SET event_time = i.event_time, trade_time = i.trade_time, price = i.price, quantity = i.quantity,
       buyer_order_id = i.buyer_order_id, seller_order_id = i.seller_order_id,
       is_market_maker = i.is_market_maker, ingested_at = now()
  FROM (SELECT DISTINCT ON (bucket_5m, symbol, trade_id) * FROM incoming_ticks
         ORDER BY bucket_5m, symbol, trade_id, row_number DESC) AS i
 WHERE t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
   AND t.bucket_5m BETWEEN $1 AND $2
   AND ((t.price <> i.price) IS TRUE OR (t.quantity <> i.quantity) IS TRUE
        OR (t.trade_time <> i.trade_time) IS TRUE OR (t.is_market_maker <> i.is_market_maker) IS TRUE)
