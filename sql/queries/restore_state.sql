-- How far dropped ranges that are wanted are back: objects that wait, an object that could not be loaded, and a range
-- with other numbers of ticks than were dropped. $1: asset, $2 and $3: start and end (exclusive).
WITH ranges AS (
    SELECT d.from_time, d.to_time, d.ticks FROM ops.dropped_ranges d
     WHERE d.asset = $1 AND d.from_time < $3 AND d.to_time > $2 AND d.wanted_at IS NOT NULL AND d.restored_at IS NULL
), serving AS (
    SELECT DISTINCT o.s3_uri, o.status, o.last_error
      FROM ranges r
      JOIN ingestion.object_slices s ON s.asset = $1 AND s.bucket_5m >= r.from_time AND s.bucket_5m < r.to_time
      JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
), counted AS (
    SELECT r.from_time, r.ticks, (SELECT count(*) FROM market_data.btc_ticks t
                                   WHERE t.symbol = $1 AND t.bucket_5m >= r.from_time AND t.bucket_5m < r.to_time)
               AS stored
      FROM ranges r WHERE NOT EXISTS (SELECT FROM serving s WHERE s.status <> 'loaded')
)
SELECT json_build_object(
    'waiting', (SELECT count(*) FROM serving s WHERE s.status IN ('pending', 'failed')),
    'failed', (SELECT format('%s is %s: %s', s.s3_uri, s.status, s.last_error) FROM serving s
                WHERE s.status IN ('quarantined', 'skipped') ORDER BY s.s3_uri LIMIT 1),
    'missing', (SELECT format('%s of %s ticks from %s on are stored', c.stored, c.ticks,
                              to_char(c.from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI+00'))
                  FROM counted c WHERE c.stored < c.ticks ORDER BY c.from_time LIMIT 1))::text
