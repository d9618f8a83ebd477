-- For loads of an object that has its place in the order of loads: row numbers of the ticks whose trade id is stored in
-- a neighbouring bucket, where no object that may have stored it there ranks higher (replace_ranked.sql). $1 and $2:
-- first and last bucket, $3: uri.
WITH own AS MATERIALIZED (
    SELECT CASE o.on_conflict WHEN 'replace' THEN o.load_order ELSE -o.load_order END AS rank
      FROM ingestion.objects o WHERE o.s3_uri = $3
)
SELECT coalesce(json_agg(n.row_number), '[]')::text
  FROM (
    SELECT i.row_number
      FROM incoming_ticks i
      JOIN market_data.btc_ticks t
        ON t.symbol = i.symbol AND t.trade_id = i.trade_id
       AND t.bucket_5m IN (i.bucket_5m - interval '5 minutes', i.bucket_5m + interval '5 minutes')
     WHERE t.bucket_5m BETWEEN $1 - interval '5 minutes' AND $2 + interval '5 minutes'
     GROUP BY i.row_number
    HAVING bool_and(coalesce((
               SELECT max(CASE o.on_conflict WHEN 'replace' THEN o.load_order ELSE -o.load_order END)
                 FROM ingestion.object_slices s JOIN ingestion.objects o ON o.s3_uri = s.s3_uri
                WHERE s.asset = t.symbol AND s.bucket_5m = t.bucket_5m
                  AND t.trade_id BETWEEN s.first_trade_id AND s.last_trade_id AND s.s3_uri <> $3
                  AND ((o.loaded_at IS NOT NULL AND NOT o.reload AND o.etag = s.etag)
                       OR (o.rows_staged > 0 AND o.listed_etag = s.etag))), 0)
               < (SELECT own.rank FROM own))
  ) AS n
