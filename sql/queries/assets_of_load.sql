-- Declares whether the trade ids of a load's assets are a sequence, as an option of the load says. What a role has
-- declared stays. A load that would change nothing locks no row. $1: assets, $2: whether they are.
INSERT INTO ingestion.assets AS a (asset, sequential_ids, changed_by, changed_at)
SELECT l.asset, $2, NULL, clock_timestamp()
  FROM unnest($1::text[]) AS l (asset)
 WHERE NOT EXISTS (SELECT FROM ingestion.assets k
                    WHERE k.asset = l.asset AND (k.sequential_ids = $2 OR k.changed_by IS NOT NULL))
 ORDER BY l.asset
ON CONFLICT (asset) DO UPDATE
   SET sequential_ids = excluded.sequential_ids, changed_at = excluded.changed_at,
       open_gaps = NULL, missing_ids = NULL, gaps_counted_at = NULL
 WHERE a.changed_by IS NULL AND a.sequential_ids <> excluded.sequential_ids
