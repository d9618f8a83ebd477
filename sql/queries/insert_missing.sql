-- The first half of the merge path: stores the ticks that are not stored yet. Other sessions may insert at the same
-- time. Returns how many it has stored, per slice.
WITH inserted AS (
    INSERT INTO market_data.btc_ticks (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
                                       buyer_order_id, seller_order_id, is_market_maker)
    SELECT bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
           buyer_order_id, seller_order_id, is_market_maker
      FROM incoming_ticks
    ON CONFLICT DO NOTHING
    RETURNING bucket_5m, symbol
)
SELECT coalesce(json_agg(json_build_object('bucket', (extract(epoch FROM s.bucket_5m) * 1000000)::bigint,
                                           'asset', s.symbol, 'ticks', s.ticks)), '[]')::text
  FROM (SELECT bucket_5m, symbol, count(*) AS ticks FROM inserted GROUP BY bucket_5m, symbol) AS s
