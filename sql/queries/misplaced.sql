-- Ticks of the batch whose trade id stands in the bucket before as well. $1: their rows in the object.
SELECT i.row_number,
       format('%s %s stands in the bucket before as well in this object; by this row''s event time it belongs to %s',
              i.symbol, i.trade_id, i.bucket_5m) AS reason,
       to_jsonb(i) - 'row_number' AS row_data
  FROM incoming_ticks i
 WHERE i.row_number = ANY ($1)
 ORDER BY i.row_number
