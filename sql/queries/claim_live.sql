-- Objects that no backfill owns: their turn comes before any backfill's. $1: how many.
SELECT coalesce(json_agg(json_build_object('uri', c.s3_uri, 'span', '-infinity') ORDER BY c.registered_at, c.s3_uri), '[]')::text
  FROM (
    SELECT o.s3_uri, o.registered_at
      FROM ingestion.objects o
     WHERE o.backfill IS NULL AND o.status = 'pending'
     ORDER BY o.registered_at, o.s3_uri
     LIMIT $1
  ) AS c
