-- Ends the wait of a prefix. Returns how many seconds it has taken, or no row if the prefix did not wait. $1: prefix.
DELETE FROM ingestion.outages WHERE prefix = $1
RETURNING to_json(extract(epoch FROM clock_timestamp() - since)::float8)::text
