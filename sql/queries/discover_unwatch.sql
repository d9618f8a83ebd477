-- Prefix $1 is not watched any more.
DELETE FROM ingestion.stream_offsets WHERE source = 'watch:' || $1
