UPDATE ingestion.stream_offsets
   SET last_sequence = $2, last_ts = $3, state = coalesce(state, '{}') || $4, updated_at = now()
 WHERE source = $1 AND (last_sequence < $2 OR last_sequence IS NULL)
