-- Whether the row of a source can be written without waiting. This statement locks a free row. $1: source.
SELECT to_json(CASE WHEN NOT EXISTS (SELECT FROM ingestion.stream_offsets WHERE source = $1) THEN 'absent'
                    WHEN EXISTS (SELECT FROM (SELECT FROM ingestion.stream_offsets
                                               WHERE source = $1 FOR UPDATE SKIP LOCKED) AS free) THEN 'free'
                    ELSE 'locked' END)::text
