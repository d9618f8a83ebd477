-- Records that a chunk of another hypertable than the ticks is held back, or dropped. $1: hypertable, $2 and $3: start
-- and end (exclusive) of the chunk, $4: policy, $5: rows that were dropped; null if it is held back, $6: what holds it
-- back.
INSERT INTO ops.chunk_drops AS k (hypertable, from_time, to_time, job_name, rows, held_by, held_since, dropped_at,
                                  dropped_by)
VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $6::text IS NOT NULL THEN clock_timestamp() END,
        CASE WHEN $6::text IS NULL THEN clock_timestamp() END, CASE WHEN $6::text IS NULL THEN session_user END)
ON CONFLICT (hypertable, from_time) DO UPDATE
   SET to_time = excluded.to_time, job_name = excluded.job_name, rows = coalesce(excluded.rows, k.rows),
       held_by = excluded.held_by,
       held_since = CASE WHEN $6::text IS NOT NULL THEN coalesce(k.held_since, excluded.held_since) END,
       checked_at = clock_timestamp(), dropped_at = coalesce(excluded.dropped_at, k.dropped_at),
       dropped_by = coalesce(excluded.dropped_by, k.dropped_by)
