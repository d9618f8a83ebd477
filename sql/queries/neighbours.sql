-- Ticks of the batch whose trade id is stored in the bucket before or behind theirs, or in both. $1 and $2 bound the
-- buckets.
SELECT DISTINCT ON (i.row_number)
       i.row_number,
       format('%s %s is stored in the neighbouring bucket %s; by the object''s event time it belongs to %s',
              i.symbol, i.trade_id, t.bucket_5m, i.bucket_5m) AS reason,
       to_jsonb(i) - 'row_number' AS row_data
  FROM incoming_ticks i
  JOIN market_data.btc_ticks t
    ON t.symbol = i.symbol AND t.trade_id = i.trade_id
   AND t.bucket_5m IN (i.bucket_5m - interval '5 minutes', i.bucket_5m + interval '5 minutes')
 WHERE t.bucket_5m BETWEEN $1 - interval '5 minutes' AND $2 + interval '5 minutes'
 ORDER BY i.row_number, t.bucket_5m
