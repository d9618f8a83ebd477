-- Terminates those processes that are workers of backfills, and returns their number. $1: pids.
SELECT to_json(count(*) FILTER (WHERE pg_terminate_backend(a.pid)))::text
  FROM pg_stat_get_activity(NULL) a
 WHERE a.pid = ANY ($1::integer[]) AND a.backend_type = 'btc_ingest backfill'
