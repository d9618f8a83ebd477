-- Ends the watch of a prefix. Its options stay for the objects that it has found and that are still to be loaded. $1:
-- prefix.
UPDATE ingestion.stream_offsets
   SET state = jsonb_build_object('ended_options', state -> 'options'), updated_at = now()
 WHERE source = 'watch:' || $1 AND state ? 'options'
