-- Registers a backfill. $1: prefixes, $2: from, $3: to, $4: parallel, $5: mode.
INSERT INTO ingestion.backfills (prefixes, from_time, to_time, parallel, mode, requested_by)
VALUES ($1, $2, $3, $4, $5, session_user)
RETURNING id::text
