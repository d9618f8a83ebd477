-- Forgets candles, with all policies for them, and returns the statements that drop them; null if they are not known.
-- $1: name.
WITH gone AS (
    DELETE FROM ingestion.candles WHERE name = $1 RETURNING name, aggregate
), policy AS (
    DELETE FROM ops.retention_jobs
     WHERE job_name = 'candles ' || $1
        OR replace(hypertable, '"', '') = (SELECT 'market_data.' || g.aggregate FROM gone g)
), dropped AS (
    DELETE FROM ops.chunk_drops WHERE hypertable = (SELECT 'market_data.' || quote_ident(g.aggregate) FROM gone g)
)
SELECT (SELECT json_agg(d.sql ORDER BY d.turn)
          FROM gone g CROSS JOIN LATERAL (VALUES
              (1, CASE WHEN g.name IS DISTINCT FROM g.aggregate
                       THEN format('DROP VIEW IF EXISTS market_data.%I', g.name) END),
              (2, CASE WHEN g.aggregate IS NOT NULL
                       THEN format('DROP MATERIALIZED VIEW IF EXISTS market_data.%I', g.aggregate) END)
          ) AS d (turn, sql) WHERE d.sql IS NOT NULL)::text
