-- Begins a verification and returns its id. $1: asset, $2 and $3: times.
INSERT INTO ingestion.verifications (asset, from_time, to_time, verified_to)
VALUES ($1, $2, $3, $2)
RETURNING id::text
