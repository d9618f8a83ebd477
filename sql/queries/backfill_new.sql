-- Registers a backfill. $1: prefixes, $2: from, $3: to, $4: parallel, $5: mode, $6: whether it is forced.
INSERT INTO ingestion.backfills (prefixes, from_time, to_time, parallel, mode, force, requested_by)
VALUES ($1, $2, $3, $4, $5, $6, session_user)
RETURNING id::text
