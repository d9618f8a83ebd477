-- Slices of loaded objects in a range, a row for each range of their trade ids; counts stand in the first one. Time
-- skew in microseconds: a float is exact up to centuries, and much faster than a numeric. $1 and $2: first bucket and
-- end (exclusive).
SELECT s.asset, s.bucket_5m, s.first_trade_id, s.last_trade_id, s.out_of_order,
       (date_part('epoch', s.max_time_skew) * 1000000)::bigint, s.loaded_at
  FROM ingestion.object_slices s
 WHERE s.missing_ids = 0 AND s.bucket_5m >= $1 AND s.bucket_5m < $2
UNION ALL
SELECT s.asset, s.bucket_5m, coalesce(lower(r.ids), s.first_trade_id), coalesce(upper(r.ids) - 1, s.last_trade_id),
       CASE coalesce(r.place, 1) WHEN 1 THEN s.out_of_order ELSE 0 END,
       (date_part('epoch', s.max_time_skew) * 1000000)::bigint, s.loaded_at
  FROM ingestion.object_slices s LEFT JOIN LATERAL unnest(s.ids) WITH ORDINALITY AS r (ids, place) ON true
 WHERE s.missing_ids > 0 AND s.bucket_5m >= $1 AND s.bucket_5m < $2
