-- Watches a prefix, and returns the earlier options, or null. A watch with the same options stays as it is. $1:
-- prefix, $2: options.
WITH before AS (
    SELECT state -> 'options' AS options FROM ingestion.stream_offsets WHERE source = 'watch:' || $1
), watched AS (
    INSERT INTO ingestion.stream_offsets AS o (source, state)
    VALUES ('watch:' || $1, jsonb_build_object('options', $2, 'requested_by', session_user))
    ON CONFLICT (source) DO UPDATE
       -- Without 'last' the prefix is due at once. The cursors stay.
       SET state = coalesce(o.state, '{}') - 'last' || excluded.state, updated_at = now()
     WHERE o.state -> 'options' IS DISTINCT FROM excluded.state -> 'options'
)
SELECT coalesce((SELECT options FROM before), 'null')::text
