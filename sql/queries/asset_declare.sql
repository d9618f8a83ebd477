-- Declares whether the trade ids of an asset are a sequence. If that changes, its gaps are to be counted again. $1:
-- asset, $2: whether they are.
INSERT INTO ingestion.assets AS a (asset, sequential_ids, changed_by, changed_at)
VALUES ($1, $2, session_user, clock_timestamp())
ON CONFLICT (asset) DO UPDATE
   SET sequential_ids = excluded.sequential_ids, changed_by = excluded.changed_by, changed_at = excluded.changed_at,
       open_gaps = CASE WHEN a.sequential_ids = excluded.sequential_ids THEN a.open_gaps END,
       missing_ids = CASE WHEN a.sequential_ids = excluded.sequential_ids THEN a.missing_ids END,
       gaps_counted_at = CASE WHEN a.sequential_ids = excluded.sequential_ids THEN a.gaps_counted_at END
