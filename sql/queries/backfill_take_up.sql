-- Continues an unfinished backfill with the same arguments, whose steps find what they have done already. Returns its
-- id. $1: prefixes, $2: from, $3: to, $4: parallel, $5: mode, $6: whether it is forced.
UPDATE ingestion.backfills b
   SET parallel = $4, sqlstate = NULL, message = NULL,
       status = CASE WHEN b.status = 'stopped' THEN 'pending' ELSE b.status END
 WHERE b.id = (SELECT max(id) FROM ingestion.backfills
                WHERE prefixes = $1 AND from_time IS NOT DISTINCT FROM $2 AND to_time IS NOT DISTINCT FROM $3
                  AND mode = $5 AND force = $6 AND status IN ('pending', 'listing', 'loading', 'stopped'))
RETURNING b.id::text
