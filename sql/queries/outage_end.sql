-- Ends the wait of a prefix. Returns how many seconds it has taken, or no row if the prefix did not wait. $1: prefix.
UPDATE ingestion.outages SET ended_at = clock_timestamp() WHERE prefix = $1 AND ended_at IS NULL
RETURNING to_json(extract(epoch FROM ended_at - since)::float8)::text
