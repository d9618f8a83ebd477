-- Whether the offset of source $1 can be written without waiting: it is there and unlocked, or nobody else is making it.
SELECT CASE WHEN EXISTS (SELECT FROM ingestion.stream_offsets WHERE source = $1)
            THEN EXISTS (SELECT FROM (SELECT FROM ingestion.stream_offsets WHERE source = $1 FOR UPDATE SKIP LOCKED) AS free)
            ELSE pg_try_advisory_xact_lock(hashtextextended('btc_ingest.offset:' || $1, 0)) END::text
