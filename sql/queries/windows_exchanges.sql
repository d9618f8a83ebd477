-- The exchange of each slice, in the order of the slices: what is registered of the objects that hold ticks of it, else
-- the segment of the key before the asset. 'mixed' if they name several, 'unknown' if they name none. $1: buckets, $2:
-- assets.
SELECT json_agg(coalesce(n.exchange, 'unknown') ORDER BY g.place)::text
  FROM unnest($1::timestamptz[], $2::text[]) WITH ORDINALITY AS g (bucket, asset, place)
  LEFT JOIN LATERAL (
       SELECT CASE WHEN count(DISTINCT e.exchange) > 1 THEN 'mixed' ELSE min(e.exchange) END AS exchange
         FROM (SELECT DISTINCT s.s3_uri FROM ingestion.object_slices s
                WHERE s.asset = g.asset AND s.bucket_5m = g.bucket) AS s
         JOIN ingestion.objects o ON o.s3_uri = s.s3_uri
        CROSS JOIN LATERAL (SELECT string_to_array(substr(s.s3_uri, 6), '/') AS segments) AS k
        CROSS JOIN LATERAL (SELECT array_position(k.segments, g.asset) AS at) AS p
        CROSS JOIN LATERAL (
              SELECT lower(coalesce(o.metadata ->> 'exchange',
                                    (SELECT b.metadata ->> 'exchange' FROM landing.raw_blobs_5m b
                                      WHERE b.s3_uri = s.s3_uri ORDER BY b.bucket_5m, b.asset LIMIT 1),
                                    CASE WHEN p.at > 2 THEN nullif(k.segments[p.at - 1], '') END)) AS exchange) AS e
       ) AS n ON true
