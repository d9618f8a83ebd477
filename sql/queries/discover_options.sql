-- The options of a watch, whose row is locked; null if the prefix is not watched. $1: prefix.
SELECT (state -> 'options')::text FROM ingestion.stream_offsets WHERE source = 'watch:' || $1 FOR UPDATE
