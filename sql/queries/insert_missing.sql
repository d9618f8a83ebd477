-- The first half of the merge path: stores the ticks that are not stored yet. Other sessions may insert at the same
-- time.
INSERT INTO market_data.btc_ticks (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
                                   buyer_order_id, seller_order_id, is_market_maker)
SELECT bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
       buyer_order_id, seller_order_id, is_market_maker
  FROM incoming_ticks
ON CONFLICT DO NOTHING
