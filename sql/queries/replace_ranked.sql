-- For loads of an object that has its place in the order of loads: replaces stored values by those of the object where
-- no object that may have stored them ranks higher. Objects with 'replace' rank by load_order, those with 'keep' by
-- -load_order, and ticks of which no object is known rank between the two. $1 and $2: first and last bucket, $3: uri.
WITH own AS MATERIALIZED (
    SELECT CASE o.on_conflict WHEN 'replace' THEN o.load_order ELSE -o.load_order END AS rank
      FROM ingestion.objects o WHERE o.s3_uri = $3
), incoming AS MATERIALIZED (
    -- Of several rows with the same key, the load that gave the object its place has stored the first, or the last.
    SELECT DISTINCT ON (i.bucket_5m, i.symbol, i.trade_id) i.*
      FROM incoming_ticks i CROSS JOIN own
     ORDER BY i.bucket_5m, i.symbol, i.trade_id, i.row_number * -sign(own.rank)
), differing AS MATERIALIZED (
    SELECT i.*
      FROM incoming i
      JOIN market_data.btc_ticks t
        ON t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
     WHERE t.bucket_5m BETWEEN $1 AND $2
       AND ((t.price <> i.price) IS TRUE OR (t.quantity <> i.quantity) IS TRUE
            OR (t.trade_time <> i.trade_time) IS TRUE OR (t.is_market_maker <> i.is_market_maker) IS TRUE)
), winning AS MATERIALIZED (
    SELECT d.*
      FROM differing d
     WHERE coalesce((SELECT max(CASE o.on_conflict WHEN 'replace' THEN o.load_order ELSE -o.load_order END)
                       FROM ingestion.object_slices s JOIN ingestion.objects o ON o.s3_uri = s.s3_uri
                      WHERE s.asset = d.symbol AND s.bucket_5m = d.bucket_5m
                        AND d.trade_id BETWEEN s.first_trade_id AND s.last_trade_id AND s.s3_uri <> $3
                        AND ((o.loaded_at IS NOT NULL AND NOT o.reload AND o.etag = s.etag)
                             OR (o.rows_staged > 0 AND o.listed_etag = s.etag))), 0)
           < (SELECT own.rank FROM own)
)
UPDATE market_data.btc_ticks t
   SET event_time = i.event_time, trade_time = i.trade_time, price = i.price, quantity = i.quantity,
       buyer_order_id = i.buyer_order_id, seller_order_id = i.seller_order_id,
       is_market_maker = i.is_market_maker, ingested_at = now()
  FROM winning i
 WHERE t.bucket_5m = i.bucket_5m AND t.symbol = i.symbol AND t.trade_id = i.trade_id
   AND t.bucket_5m BETWEEN $1 AND $2
