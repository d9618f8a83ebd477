-- Writes the first offset of a source. Another session may have written it meanwhile. $1: source, $2: sequence, $3:
-- time, $4: state.
INSERT INTO ingestion.stream_offsets AS o (source, last_sequence, last_ts, state)
VALUES ($1, $2, $3, $4)
ON CONFLICT (source) DO UPDATE
   SET last_sequence = excluded.last_sequence, last_ts = excluded.last_ts,
       state = coalesce(o.state, '{}') || excluded.state, updated_at = now()
 WHERE o.last_sequence < excluded.last_sequence OR o.last_sequence IS NULL
