-- Changes nothing of a stored tick, so that TimescaleDB notes its bucket for continuous aggregates. The tick is the
-- only one of the batch. Returns whether it is stored. $1: its bucket.
WITH touched AS (
    UPDATE market_data.btc_ticks t SET ingested_at = t.ingested_at
      FROM incoming_ticks i
     WHERE (t.bucket_5m, t.symbol, t.trade_id) = (i.bucket_5m, i.symbol, i.trade_id) AND t.bucket_5m = $1
    RETURNING 1
)
SELECT (EXISTS (SELECT FROM touched))::text
