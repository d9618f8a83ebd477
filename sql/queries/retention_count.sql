-- The ticks of a chunk that no session changes any more: per asset, how many there are and how many loaded objects hold
-- some of them; and the first slice of which more ticks are stored than its objects hold. $1 and $2: start and
-- end (exclusive) of the chunk.
WITH stored AS (
    -- Symbols of ticks compare by byte. With that collation, the index of slices by their assets could not be used.
    SELECT t.bucket_5m, t.symbol COLLATE "default" AS asset, count(*) AS ticks FROM market_data.btc_ticks t
     WHERE t.bucket_5m >= $1 AND t.bucket_5m < $2 GROUP BY t.bucket_5m, t.symbol
), assets AS (
    SELECT s.asset, sum(s.ticks)::bigint AS ticks FROM stored s GROUP BY s.asset
), slices AS (
    SELECT s.asset, s.bucket_5m, s.s3_uri, s.ticks
      FROM assets a
      -- Without OFFSET 0, the planner may read the whole index of slices by their buckets.
     CROSS JOIN LATERAL (SELECT i.asset, i.bucket_5m, i.s3_uri, i.etag, i.ticks FROM ingestion.object_slices i
                          WHERE i.asset = a.asset AND i.bucket_5m >= $1 AND i.bucket_5m < $2 OFFSET 0) AS s
     WHERE s.etag = (SELECT o.etag FROM ingestion.objects o WHERE o.s3_uri = s.s3_uri)
), held AS (
    SELECT s.asset, s.bucket_5m, sum(s.ticks) AS ticks FROM slices s GROUP BY s.asset, s.bucket_5m
)
SELECT json_build_object(
    'assets', (SELECT coalesce(json_agg(json_build_array(a.asset, a.ticks,
                                   (SELECT count(DISTINCT s.s3_uri) FROM slices s WHERE s.asset = a.asset))
                                        ORDER BY a.asset), '[]') FROM assets a),
    'lacking', (SELECT format('%s of the %s ticks of %s at %s are in no loaded object', s.ticks - coalesce(h.ticks, 0),
                              s.ticks, s.asset, to_char(s.bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI+00'))
                  FROM stored s LEFT JOIN held h ON h.asset = s.asset AND h.bucket_5m = s.bucket_5m
                 WHERE s.ticks > coalesce(h.ticks, 0) ORDER BY s.bucket_5m, s.asset LIMIT 1)
)::text
