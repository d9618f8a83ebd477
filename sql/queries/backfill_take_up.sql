-- An unfinished backfill with the same arguments goes on where it stands. $1 prefixes, $2 from, $3 to, $4 parallel, $5 mode.
UPDATE ingestion.backfills b
   SET parallel = $4, sqlstate = NULL, message = NULL,
       status = CASE WHEN b.status <> 'stopped' THEN b.status
                     WHEN coalesce((b.state ->> 'prefix')::integer, 0) >= cardinality(b.prefixes) THEN 'loading'
                     ELSE 'pending' END
 WHERE b.id = (SELECT max(id) FROM ingestion.backfills
                WHERE prefixes = $1 AND from_time IS NOT DISTINCT FROM $2 AND to_time IS NOT DISTINCT FROM $3
                  AND mode = $5 AND status IN ('pending', 'listing', 'loading', 'stopped'))
RETURNING json_build_object('id', b.id)::text
