-- The insert path: no tick of the batch is stored yet. The unique index decides; a violation rolls back to the start
-- of the batch.
INSERT INTO market_data.btc_ticks (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
                                   buyer_order_id, seller_order_id, is_market_maker)
SELECT bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
       buyer_order_id, seller_order_id, is_market_maker
  FROM incoming_ticks
