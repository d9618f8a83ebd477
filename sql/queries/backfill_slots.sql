-- The worker slots of backfill $1, and whether no process holds them: tried and given back at once.
SELECT coalesce(json_agg(json_build_object('slot', s.slot, 'free',
           CASE WHEN pg_try_advisory_lock(hashtextextended(s.name, 0)) THEN pg_advisory_unlock(hashtextextended(s.name, 0)) ELSE false END)
           ORDER BY s.slot), '[]')::text
  FROM (
    SELECT slot, format('btc_ingest.backfill:%s:%s', $1::bigint, slot) AS name
      FROM ingestion.backfills b, generate_series(0, b.parallel - 1) AS slot
     WHERE b.id = $1 AND b.status IN ('pending', 'listing', 'loading')
  ) AS s
