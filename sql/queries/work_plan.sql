-- Adds the units of a range that are missing, and opens those whose slices, objects or versions have changed since they
-- were finished. What is leased stays as it is until the lease ends. $1: kind, $2 and $3: a time in the first unit and
-- end (exclusive), $4: assets or null, $5: width.
WITH bounds AS (
    SELECT date_bin($5::interval, $2, 'epoch'::timestamptz) AS first,
           date_bin($5::interval, $3 + $5::interval - interval '1 microsecond', 'epoch'::timestamptz) AS after
), slices AS (
    SELECT r.asset, r.bucket_5m, r.s3_uri, r.status = 'pending' AS waits, r.registered_at
      FROM bounds b
      JOIN landing.raw_blobs_5m r ON r.bucket_5m >= b.first AND r.bucket_5m < b.after
     WHERE r.status <> 'skipped' AND ($4::text[] IS NULL OR r.asset = ANY ($4))
    UNION ALL
    SELECT s.asset, s.bucket_5m, s.s3_uri, false, NULL
      FROM bounds b
      JOIN ingestion.object_slices s ON s.bucket_5m >= b.first AND s.bucket_5m < b.after
      JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
     WHERE $4::text[] IS NULL OR s.asset = ANY ($4)
), versions AS (
    -- The version of an object that was never loaded is that of its registration.
    SELECT s.asset, s.bucket_5m, s.s3_uri, coalesce(max(o.etag), max(s.registered_at)::text, '') AS version
      FROM slices s LEFT JOIN ingestion.objects o ON o.s3_uri = s.s3_uri
     GROUP BY s.asset, s.bucket_5m, s.s3_uri
), units AS (
    SELECT v.asset, date_bin($5::interval, v.bucket_5m, 'epoch'::timestamptz) AS from_time,
           md5(string_agg(format('%s %s %s', extract(epoch FROM v.bucket_5m), v.s3_uri, v.version), E'\n'
                          ORDER BY v.bucket_5m, v.s3_uri COLLATE "C")) AS inputs
      FROM versions v GROUP BY 1, 2
)
INSERT INTO ingestion.work_units AS u (kind, asset, from_time, to_time, inputs)
SELECT $1, n.asset, n.from_time, n.from_time + $5::interval, n.inputs FROM units n
 ORDER BY n.asset, n.from_time
    ON CONFLICT (kind, asset, from_time, to_time) DO UPDATE
       SET state = 'open', inputs = excluded.inputs, token = NULL, buckets = NULL, attempts = 0, last_error = NULL
     WHERE u.inputs IS DISTINCT FROM excluded.inputs
       AND (u.state <> 'leased' OR u.leased_until < clock_timestamp())
