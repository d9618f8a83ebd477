-- All watches, without their cursors, which may be many. Times are in microseconds since 1970.
SELECT coalesce(json_agg(json_build_object(
           'prefix', substr(source, 7), 'options', state -> 'options', 'problem', state #> '{last, problem}',
           'has_cursors', coalesce(jsonb_typeof(state -> 'cursors') = 'object', false),
           'listed', (extract(epoch FROM (state #>> '{last, at}')::timestamptz) * 1000000)::bigint,
           'full', (extract(epoch FROM (state ->> 'full_at')::timestamptz) * 1000000)::bigint)
       ORDER BY source), '[]')::text
  FROM ingestion.stream_offsets
 WHERE starts_with(source, 'watch:') AND state ? 'options'
