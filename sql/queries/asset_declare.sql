-- Declares whether the trade ids of an asset are a sequence. $1: asset, $2: whether they are.
INSERT INTO ingestion.assets AS a (asset, sequential_ids, changed_by, changed_at)
VALUES ($1, $2, session_user, clock_timestamp())
ON CONFLICT (asset) DO UPDATE
   SET sequential_ids = excluded.sequential_ids, changed_by = excluded.changed_by, changed_at = excluded.changed_at
