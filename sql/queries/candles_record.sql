-- Records candles that were made, and the policy that is wanted for their aggregate. $1: name, $2: width,
-- $3: event_time or trade_time, $4: aggregate or null, $5: chunk interval.
WITH policy AS (
    INSERT INTO ops.retention_jobs (job_name, hypertable, policy)
    SELECT 'candles ' || $1, 'market_data.' || $4::text,
           '{"compress_after": "30 days", "segment_by": "symbol"}'::jsonb
     WHERE $4 IS NOT NULL
    ON CONFLICT (job_name) DO NOTHING
), dropped AS (
    -- Of an aggregate of the same name that was dropped by another statement.
    DELETE FROM ops.chunk_drops WHERE hypertable = 'market_data.' || quote_ident($4::text)
)
INSERT INTO ingestion.candles (name, width, by_time, aggregate, chunk_interval)
VALUES ($1, $2, $3, $4, justify_hours($5))
ON CONFLICT (name) DO UPDATE
   SET width = excluded.width, by_time = excluded.by_time, aggregate = excluded.aggregate,
       chunk_interval = excluded.chunk_interval, refreshed_at = NULL, wanted_from = NULL, wanted_to = NULL,
       last_error = NULL, created_by = excluded.created_by, created_at = excluded.created_at
