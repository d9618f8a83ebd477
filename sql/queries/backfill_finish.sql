-- Marks a backfill as done if no object and no chunk of it is left, and no refresh of any backfill: its workers take
-- over what others owe, and may be at it. Returns its counts. $1: backfill.
UPDATE ingestion.backfills b
   SET status = 'done', finished_at = clock_timestamp(), message = NULL, sqlstate = NULL,
       objects_done = w.done,
       objects_failed = (SELECT count(*) FROM ingestion.objects WHERE backfill = b.id AND status = 'quarantined'),
       rows_inserted = w.inserted
  FROM (SELECT coalesce(sum(objects_done), 0) AS done, coalesce(sum(rows_inserted), 0) AS inserted
          FROM ingestion.backfill_workers WHERE backfill = $1) AS w
 WHERE b.id = $1 AND b.status = 'loading'
   AND NOT EXISTS (SELECT FROM ingestion.objects WHERE backfill = $1 AND status = 'pending')
   AND NOT EXISTS (SELECT FROM ingestion.objects WHERE backfill = $1 AND status = 'failed')
   AND NOT EXISTS (SELECT FROM ingestion.backfill_chunks WHERE backfill = $1 AND status = 'pending')
   AND NOT EXISTS (SELECT FROM ingestion.backfill_chunks WHERE refresh_due)
RETURNING to_json(format('%s objects loaded, %s failed, %s rows', objects_done, objects_failed, rows_inserted))::text
