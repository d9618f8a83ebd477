-- Sessions, except workers of btc_ingest, whose transaction has been open for long and holds locks that loads need.
-- $1: processes that hold locks of the extension, $2: seconds from which on it is long. tables: what they have locked
-- against writers, at most three of them.
WITH tables (oid) AS (
    SELECT to_regclass(t.name)::oid
      FROM unnest('{landing.raw_blobs_5m, landing.rejected_ticks, market_data.btc_ticks, ingestion.stream_offsets,
                    ingestion.objects, ingestion.object_slices, ingestion.load_history, ingestion.backfills,
                    ingestion.backfill_workers, ingestion.backfill_chunks, ingestion.control,
                    ingestion.outages}'::text[]) AS t (name)
    UNION ALL
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = to_regclass('market_data.btc_ticks')
), locked AS (
    SELECT l.pid, array_agg(DISTINCT l.relation::regclass::text) AS names
      FROM pg_catalog.pg_locks l
      JOIN tables t ON t.oid = l.relation
     WHERE l.locktype = 'relation' AND l.granted
       AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
       AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
     GROUP BY l.pid
)
SELECT coalesce(json_agg(json_build_object(
           'pid', a.pid, 'role', a.usename, 'kind', a.backend_type, 'idle', a.state ^@ 'idle in transaction',
           'seconds', floor(extract(epoch FROM clock_timestamp() - a.xact_start))::bigint,
           'tables', coalesce(array_to_json(k.names[1:3]), '[]'), 'more', greatest(cardinality(k.names) - 3, 0))
       ORDER BY a.xact_start, a.pid), '[]')::text
  FROM pg_catalog.pg_stat_activity a
  LEFT JOIN locked k ON k.pid = a.pid
 WHERE (a.pid = ANY ($1) OR k.pid IS NOT NULL)
   AND a.datname = current_database() AND NOT a.backend_type ^@ 'btc_ingest' AND a.pid <> pg_backend_pid()
   AND a.xact_start < clock_timestamp() - $2 * interval '1 second'
