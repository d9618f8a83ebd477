-- Slices of loaded objects in a range. The trade ids of a slice that lacks some are the text of a multirange, null
-- for all others: to unnest them here would take a second pass over all slices. Time skew in microseconds: a float is
-- exact up to centuries, and much faster than a numeric. $1 and $2: first bucket and end (exclusive).
SELECT s.asset, s.bucket_5m, s.first_trade_id, s.last_trade_id, s.out_of_order,
       (date_part('epoch', s.max_time_skew) * 1000000)::bigint, s.loaded_at,
       CASE WHEN s.missing_ids > 0 THEN s.ids::text END
  FROM ingestion.object_slices s
 WHERE s.bucket_5m >= $1 AND s.bucket_5m < $2
