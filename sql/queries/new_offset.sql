-- The first offset of source $1: sequence $2 at time $3, with state $4. Another session may have written it meanwhile.
INSERT INTO ingestion.stream_offsets AS o (source, last_sequence, last_ts, state)
VALUES ($1, $2, $3, $4)
ON CONFLICT (source) DO UPDATE
   SET last_sequence = excluded.last_sequence, last_ts = excluded.last_ts,
       state = coalesce(o.state, '{}') || excluded.state, updated_at = now()
 WHERE o.last_sequence < excluded.last_sequence OR o.last_sequence IS NULL
