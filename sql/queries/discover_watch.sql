-- Watches a prefix. A watch with the same options stays as it is. $1: prefix, $2: options.
INSERT INTO ingestion.stream_offsets AS o (source, state)
VALUES ('watch:' || $1, jsonb_build_object('options', $2, 'requested_by', session_user))
ON CONFLICT (source) DO UPDATE
   -- Without 'last' the prefix is due at once. The cursors stay.
   SET state = coalesce(o.state, '{}') - '{last, ended_options}'::text[] || excluded.state, updated_at = now()
 WHERE o.state -> 'options' IS DISTINCT FROM excluded.state -> 'options'
