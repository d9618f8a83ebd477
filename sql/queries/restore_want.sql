-- Makes the objects pending that hold ticks of dropped ranges, to be read although they are loaded. What loads take
-- into a range that is wanted is not refused. $1: asset, $2 and $3: start and end (exclusive) of what is to come back;
-- ranges are whole chunks.
WITH ranges AS (
    UPDATE ops.dropped_ranges d
       SET wanted_at = coalesce(d.wanted_at, clock_timestamp()), wanted_by = coalesce(d.wanted_by, session_user)
     WHERE d.asset = $1 AND d.from_time < $3 AND d.to_time > $2 AND d.restored_at IS NULL
    RETURNING d.from_time, d.to_time
), serving AS (
    SELECT DISTINCT o.s3_uri
      FROM ranges r
      JOIN ingestion.object_slices s ON s.asset = $1 AND s.bucket_5m >= r.from_time AND s.bucket_5m < r.to_time
      JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
     -- An object that waits already is read when its turn comes.
     WHERE o.status <> 'pending'
), objects AS (
    UPDATE ingestion.objects o
       SET status = 'pending', backfill = NULL, reload = true, rows_staged = 0, asset = coalesce(o.asset, $1),
           attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, last_sqlstate = NULL, last_error = NULL,
           queued_at = clock_timestamp(), generation = o.generation + 1
      FROM serving s WHERE o.s3_uri = s.s3_uri
    RETURNING o.s3_uri
)
SELECT json_build_object(
    'ranges', (SELECT count(*) FROM ranges), 'objects', (SELECT count(*) FROM objects),
    'first', (SELECT trunc((extract(epoch FROM min(r.from_time)) - 946684800) * 1000000)::bigint FROM ranges r),
    'after', (SELECT trunc((extract(epoch FROM max(r.to_time)) - 946684800) * 1000000)::bigint FROM ranges r))::text
