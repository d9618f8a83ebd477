INSERT INTO ingestion.backfills (prefixes, from_time, to_time, parallel, mode, requested_by)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING json_build_object('id', id)::text
