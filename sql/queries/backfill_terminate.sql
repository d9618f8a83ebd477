-- Ends the workers of backfill $1: the processes that hold the locks of its slots.
SELECT to_json(count(*) FILTER (WHERE pg_terminate_backend(l.pid)))::text
  FROM generate_series(0, 63) AS slot
 CROSS JOIN LATERAL (SELECT hashtextextended(format('btc_ingest.backfill:%s:%s', $1::bigint, slot), 0) AS key) AS k
  JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND ((l.classid::bigint << 32) | l.objid::bigint) = k.key
  JOIN pg_stat_get_activity(NULL) a ON a.pid = l.pid AND a.backend_type = 'btc_ingest backfill'
