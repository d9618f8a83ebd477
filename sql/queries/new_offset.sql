-- Two first loads of a source at once both come here; the higher sequence wins. The lock tells workers that somebody is at it.
WITH locked AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended('btc_ingest.offset:' || $1, 0))
     WHERE NOT EXISTS (SELECT FROM ingestion.stream_offsets WHERE source = $1)
)
INSERT INTO ingestion.stream_offsets AS o (source, last_sequence, last_ts, state)
SELECT $1, $2, $3, $4 FROM locked
ON CONFLICT (source) DO UPDATE
   SET last_sequence = excluded.last_sequence, last_ts = excluded.last_ts,
       state = coalesce(o.state, '{}') || excluded.state, updated_at = now()
 WHERE o.last_sequence < excluded.last_sequence OR o.last_sequence IS NULL
