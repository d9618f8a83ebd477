-- Whether workers are to drop chunks: how often, in seconds, and how long a run may take; null if no row wants it.
SELECT json_build_object(
    'every_s', extract(epoch FROM min(coalesce((r.policy ->> 'schedule_interval')::interval, interval '1 day'))),
    'max_s', extract(epoch FROM min((r.policy ->> 'max_runtime')::interval)))::text
  FROM ops.retention_jobs r
 WHERE r.enabled AND r.policy ? 'drop_after'
HAVING count(*) > 0
