-- Whether a slice has ticks outside a range of trade ids. $1: bucket, $2: asset, $3 and $4: lowest and highest trade
-- id.
SELECT (EXISTS (SELECT FROM market_data.btc_ticks WHERE bucket_5m = $1 AND symbol = $2 AND trade_id < $3)
        OR EXISTS (SELECT FROM market_data.btc_ticks WHERE bucket_5m = $1 AND symbol = $2 AND trade_id > $4))::text
