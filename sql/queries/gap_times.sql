-- The times of the ticks around holes, as far as the ticks are stored. $1: assets, $2 and $3: first and last trade ids
-- of the holes. In microseconds since 1970, in the order of the arguments.
SELECT coalesce(json_agg(json_build_object('before', (extract(epoch FROM b.event_time) * 1000000)::bigint,
                                           'after', (extract(epoch FROM a.event_time) * 1000000)::bigint)
                         ORDER BY h.place), '[]')::text
  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS h (asset, low, high, place)
  LEFT JOIN LATERAL (SELECT t.event_time FROM ingestion.object_slices s
                       JOIN market_data.btc_ticks t
                         ON t.bucket_5m = s.bucket_5m AND t.symbol = s.asset AND t.trade_id = h.low - 1
                      WHERE s.asset = h.asset AND s.first_trade_id <= h.low - 1 AND s.last_trade_id >= h.low - 1
                      ORDER BY s.first_trade_id DESC LIMIT 1) AS b ON true
  LEFT JOIN LATERAL (SELECT t.event_time FROM ingestion.object_slices s
                       JOIN market_data.btc_ticks t
                         ON t.bucket_5m = s.bucket_5m AND t.symbol = s.asset AND t.trade_id = h.high + 1
                      WHERE s.asset = h.asset AND s.first_trade_id <= h.high + 1 AND s.last_trade_id >= h.high + 1
                      ORDER BY s.first_trade_id DESC LIMIT 1) AS a ON true
