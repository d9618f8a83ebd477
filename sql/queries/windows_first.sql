-- The time of an asset's first tick in a range of buckets. $1: asset, $2 and $3: first bucket and end (exclusive).
SELECT t.event_time FROM market_data.btc_ticks t
 WHERE t.symbol = $1 AND t.bucket_5m >= $2 AND t.bucket_5m < $3 AND t.event_time >= $2 AND t.event_time < $3
 ORDER BY t.event_time LIMIT 1
