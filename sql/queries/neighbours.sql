-- Ticks of the batch whose trade id is stored in the bucket before theirs, in the bucket after it, or in both. It
-- returns all row numbers but few texts, because all ticks of a batch may be misplaced and few are kept. $1 and $2:
-- first and last bucket, $3: texts to return at most.
SELECT n.row_number,
       CASE WHEN n.place <= $3 THEN
           format('%s %s is stored in the neighbouring bucket %s; by the object''s event time it belongs to %s',
                  n.symbol, n.trade_id, n.stored_bucket, n.bucket_5m) END AS reason,
       CASE WHEN n.place <= $3 THEN to_jsonb(n) - '{row_number, stored_bucket, place}'::text[] END AS row_data
  FROM (
    SELECT d.*, row_number() OVER (ORDER BY d.row_number) AS place
      FROM (
        SELECT DISTINCT ON (i.row_number) i.*, t.bucket_5m AS stored_bucket
          FROM incoming_ticks i
          JOIN market_data.btc_ticks t
            ON t.symbol = i.symbol AND t.trade_id = i.trade_id
           AND t.bucket_5m IN (i.bucket_5m - interval '5 minutes', i.bucket_5m + interval '5 minutes')
         WHERE t.bucket_5m BETWEEN $1 - interval '5 minutes' AND $2 + interval '5 minutes'
         ORDER BY i.row_number, t.bucket_5m
      ) AS d
  ) AS n
 ORDER BY n.row_number
