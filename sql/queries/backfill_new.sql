INSERT INTO ingestion.backfills (prefixes, from_time, to_time, parallel, mode, requested_by)
VALUES ($1, $2, $3, $4, $5, session_user)
RETURNING id::text
