-- Leases units that are open, or whose lease has ended, those with the fewest attempts first. Units that another call
-- is leasing are passed over. $1: kind, $2 and $3: a time in the first unit and end (exclusive), $4: assets or null,
-- $5: width, $6: how many, $7: attempts at which a unit is left out, $8: how long.
WITH due AS (
    SELECT u.id
      FROM ingestion.work_units u
     WHERE u.kind = $1 AND u.from_time > $2 - $5::interval AND u.from_time < $3
       AND u.to_time - u.from_time = $5::interval AND ($4::text[] IS NULL OR u.asset = ANY ($4)) AND u.attempts < $7
       AND (u.state = 'open' OR u.state = 'leased' AND u.leased_until < clock_timestamp())
     ORDER BY u.attempts, u.from_time, u.asset
     LIMIT $6
       FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE ingestion.work_units u
       SET state = 'leased', token = gen_random_uuid(), attempts = u.attempts + 1, leased_by = session_user,
           leased_until = clock_timestamp() + $8,
           buckets = ARRAY(
               SELECT b.bucket_5m FROM landing.raw_blobs_5m b
                WHERE b.asset = u.asset AND b.bucket_5m >= u.from_time AND b.bucket_5m < u.to_time
                  AND b.status <> 'skipped'
               UNION
               SELECT s.bucket_5m FROM ingestion.object_slices s
                 JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
                WHERE s.asset = u.asset AND s.bucket_5m >= u.from_time AND s.bucket_5m < u.to_time
               ORDER BY 1)
      FROM due d WHERE u.id = d.id
    RETURNING u.id
)
SELECT coalesce(json_agg(l.id), '[]')::text FROM leased l
