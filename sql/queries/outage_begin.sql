-- Lets a prefix wait until S3 answers, and looks at once whether it does. If the prefix waits already, the object was a
-- probe that has failed, and the next look follows after a pause. Returns whether the prefix did not wait before. $1:
-- prefix, $2: SQLSTATE, $3: message, $4: uri of the object that has failed, $5 and $6: the first and the longest pause
-- in milliseconds, $7: whether the failure of a probe says less than what is known.
INSERT INTO ingestion.outages AS t (prefix, sqlstate, message, s3_uri) VALUES ($1, $2, $3, $4)
ON CONFLICT (prefix) DO UPDATE
   SET sqlstate = CASE WHEN $7 THEN t.sqlstate ELSE excluded.sqlstate END,
       message = CASE WHEN $7 THEN t.message ELSE excluded.message END,
       s3_uri = excluded.s3_uri,
       next_probe_at = clock_timestamp() + least($6, $5 * 2 ^ least(t.probes, 30)) * interval '1 millisecond'
RETURNING to_json(t.xmax = 0)::text
