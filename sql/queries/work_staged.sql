-- What speaks against publishing what was staged under a token: a slice that is staged twice, or is none of the unit,
-- or is missing, or a candle outside the staged slices. $1: token, $2: parts that count, or null for all.
WITH unit AS (
    SELECT u.id, u.buckets FROM ingestion.work_units u WHERE u.token = $1
), staged AS (
    SELECT s.bucket_5m, s.part FROM ingestion.staged_slices s
     WHERE s.token = $1 AND ($2::uuid[] IS NULL OR s.part = ANY ($2))
), objections (place, why) AS (
    (SELECT 1, format('the slice of %s is staged in %s parts', to_char(s.bucket_5m, 'YYYY-MM-DD HH24:MI TZ'), count(*))
       FROM staged s GROUP BY s.bucket_5m HAVING count(*) > 1 ORDER BY s.bucket_5m LIMIT 1)
    UNION ALL
    (SELECT 2, format('the slice of %s is none of its slices', to_char(s.bucket_5m, 'YYYY-MM-DD HH24:MI TZ'))
       FROM staged s JOIN unit u ON s.bucket_5m <> ALL (u.buckets) ORDER BY s.bucket_5m LIMIT 1)
    UNION ALL
    (SELECT 3, format('the slice of %s is not staged', to_char(b.bucket_5m, 'YYYY-MM-DD HH24:MI TZ'))
       FROM unit u CROSS JOIN LATERAL unnest(u.buckets) AS b (bucket_5m)
      WHERE b.bucket_5m NOT IN (SELECT s.bucket_5m FROM staged s) ORDER BY b.bucket_5m LIMIT 1)
    UNION ALL
    (SELECT 4, format('the candle of %s is staged twice or belongs to no slice of its part',
                      to_char(c.minute, 'YYYY-MM-DD HH24:MI TZ'))
       FROM ingestion.staged_candles c
      WHERE c.token = $1 AND ($2::uuid[] IS NULL OR c.part = ANY ($2))
        AND (c.minute <> date_bin('1 minute', c.minute, 'epoch'::timestamptz)
             OR NOT EXISTS (SELECT FROM staged s
                             WHERE s.part = c.part
                               AND s.bucket_5m = date_bin('5 minutes', c.minute, 'epoch'::timestamptz)))
      ORDER BY c.minute LIMIT 1)
)
SELECT json_build_object('objection', (
    SELECT format('unit %s cannot be published: %s', u.id, o.why)
      FROM unit u CROSS JOIN objections o ORDER BY o.place LIMIT 1))::text
