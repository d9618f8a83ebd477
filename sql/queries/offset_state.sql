-- Whether the row of source $1 can be written without waiting. A free row is locked by this statement.
SELECT to_json(CASE WHEN NOT EXISTS (SELECT FROM ingestion.stream_offsets WHERE source = $1) THEN 'absent'
                    WHEN EXISTS (SELECT FROM (SELECT FROM ingestion.stream_offsets
                                               WHERE source = $1 FOR UPDATE SKIP LOCKED) AS free) THEN 'free'
                    ELSE 'locked' END)::text
