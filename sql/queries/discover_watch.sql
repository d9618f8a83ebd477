-- Prefix $1 is watched with the options $2; what they were before, or null. What stands already is left alone.
WITH before AS (
    SELECT state -> 'options' AS options FROM ingestion.stream_offsets WHERE source = 'watch:' || $1
), watched AS (
    INSERT INTO ingestion.stream_offsets AS o (source, state)
    VALUES ('watch:' || $1, jsonb_build_object('options', $2, 'requested_by', session_user))
    ON CONFLICT (source) DO UPDATE
       -- Due at once, from where it stands.
       SET state = coalesce(o.state, '{}') - 'last' || excluded.state, updated_at = now()
     WHERE o.state -> 'options' IS DISTINCT FROM excluded.state -> 'options'
)
SELECT coalesce((SELECT options FROM before), 'null')::text
