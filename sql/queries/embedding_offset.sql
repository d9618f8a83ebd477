-- Writes the offset of a program that makes vectors. A row that loads write stays, and so does one of another role. $1:
-- source, $2: time, $3: state.
INSERT INTO ingestion.stream_offsets AS o (source, last_ts, state)
VALUES ($1, $2, $3::text::jsonb || jsonb_build_object('role', session_user))
    ON CONFLICT (source) DO UPDATE SET last_ts = excluded.last_ts, state = excluded.state, updated_at = now()
 WHERE o.last_sequence IS NULL AND o.state ->> 'role' = session_user
RETURNING 1
