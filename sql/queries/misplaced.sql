-- Ticks of the batch whose trade id the same object also has in the bucket before. $1: their row numbers in the
-- object, $2: texts to return at most.
SELECT n.row_number,
       CASE WHEN n.place <= $2 THEN
           format('%s %s stands in the bucket before as well in this object; '
                  'by this row''s event time it belongs to %s',
                  n.symbol, n.trade_id, n.bucket_5m) END AS reason,
       CASE WHEN n.place <= $2 THEN to_jsonb(n) - '{row_number, place}'::text[] END AS row_data
  FROM (
    SELECT i.*, row_number() OVER (ORDER BY i.row_number) AS place
      FROM incoming_ticks i
     WHERE i.row_number = ANY ($1)
  ) AS n
 ORDER BY n.row_number
