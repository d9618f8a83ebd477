-- Moves the offset of a source forward. $1: source, $2: sequence, $3: time, $4: state.
UPDATE ingestion.stream_offsets
   SET last_sequence = $2, last_ts = $3, state = coalesce(state, '{}') || $4, updated_at = now()
 WHERE source = $1 AND (last_sequence < $2 OR last_sequence IS NULL)
