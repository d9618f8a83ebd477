-- Ends the watch of a prefix. $1: prefix.
DELETE FROM ingestion.stream_offsets WHERE source = 'watch:' || $1
