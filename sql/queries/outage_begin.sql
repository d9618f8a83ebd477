-- Lets a prefix wait until S3 answers, and looks at once whether it does. If the prefix waits already, the object was a
-- probe that has failed, and the next look follows after a pause. Returns whether the prefix did not wait before. $1:
-- prefix, $2: SQLSTATE, $3: message, $4: uri of the object that has failed, $5 and $6: the first and the longest pause
-- in milliseconds, $7: whether the failure of a probe says less than what is known.
WITH waiting AS MATERIALIZED (
    -- An outage that is over has left its row, which this one takes.
    SELECT FROM ingestion.outages t WHERE t.prefix = $1 AND t.ended_at IS NULL
)
INSERT INTO ingestion.outages AS t (prefix, sqlstate, message, s3_uri) VALUES ($1, $2, $3, $4)
ON CONFLICT (prefix) DO UPDATE
   SET sqlstate = CASE WHEN $7 AND t.ended_at IS NULL THEN t.sqlstate ELSE excluded.sqlstate END,
       message = CASE WHEN $7 AND t.ended_at IS NULL THEN t.message ELSE excluded.message END,
       s3_uri = excluded.s3_uri,
       since = CASE WHEN t.ended_at IS NULL THEN t.since ELSE excluded.since END,
       probes = CASE WHEN t.ended_at IS NULL THEN t.probes ELSE 0 END,
       probed_at = CASE WHEN t.ended_at IS NULL THEN t.probed_at END,
       next_probe_at = CASE WHEN t.ended_at IS NULL
           THEN clock_timestamp() + least($6, $5 * 2 ^ least(t.probes, 30)) * interval '1 millisecond'
           ELSE excluded.next_probe_at END,
       ended_at = NULL
RETURNING to_json(NOT EXISTS (SELECT FROM waiting))::text
