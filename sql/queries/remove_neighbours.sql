-- For on_conflict => replace: removes ticks from the bucket that they are stored in, so that they move to the bucket
-- of the object's event time. Returns the number of ticks that will be inserted there; ticks that are stored there
-- already are left to the merge path. $1 and $2: first and last bucket, $3: row numbers in the object.
WITH removed AS (
    DELETE FROM market_data.btc_ticks t
     USING incoming_ticks i
     WHERE t.symbol = i.symbol AND t.trade_id = i.trade_id
       AND t.bucket_5m IN (i.bucket_5m - interval '5 minutes', i.bucket_5m + interval '5 minutes')
       AND t.bucket_5m BETWEEN $1 - interval '5 minutes' AND $2 + interval '5 minutes'
       AND i.row_number = ANY ($3)
)
SELECT json_build_object('moved', count(DISTINCT (i.bucket_5m, i.symbol, i.trade_id)))::text
  FROM incoming_ticks i
 WHERE i.row_number = ANY ($3)
   AND NOT EXISTS (SELECT FROM market_data.btc_ticks t
                    WHERE t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
                      AND t.bucket_5m BETWEEN $1 AND $2)
