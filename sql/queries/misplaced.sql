-- Ticks of the batch whose trade id stands in the bucket before as well, with the texts of the first $2 of them. $1: their
-- rows in the object.
SELECT n.row_number,
       CASE WHEN n.place <= $2 THEN
           format('%s %s stands in the bucket before as well in this object; by this row''s event time it belongs to %s',
                  n.symbol, n.trade_id, n.bucket_5m) END AS reason,
       CASE WHEN n.place <= $2 THEN to_jsonb(n) - '{row_number, place}'::text[] END AS row_data
  FROM (
    SELECT i.*, row_number() OVER (ORDER BY i.row_number) AS place
      FROM incoming_ticks i
     WHERE i.row_number = ANY ($1)
  ) AS n
 ORDER BY n.row_number
