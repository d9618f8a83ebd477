-- Starts an attempt to refresh the continuous aggregates over the next attached chunk of any backfill. The refresh is
-- given up, with a note, after $1 attempts, or if the owner of an aggregate is not a superuser: functions that the
-- aggregate calls would run with the privileges of the worker. $1: attempts at most.
UPDATE ingestion.backfill_chunks c
   SET attempts = c.attempts + 1,
       refresh_due = c.attempts < $1 AND f.owners IS NULL,
       note = CASE WHEN c.attempts < $1 AND f.owners IS NULL THEN c.note
              ELSE concat_ws('; ', c.note, 'its continuous aggregates were not refreshed'
                             || coalesce(' (they belong to ' || f.owners || ')', '')
                             || ': CALL refresh_continuous_aggregate(…, force => true) over it') END
  FROM (SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ') AS owners
          FROM timescaledb_information.continuous_aggregates a JOIN pg_roles r ON r.rolname = a.view_owner
         WHERE a.hypertable_schema = 'market_data' AND a.hypertable_name = 'btc_ticks' AND NOT r.rolsuper) AS f
 WHERE (c.backfill, c.chunk_from) = (SELECT d.backfill, d.chunk_from FROM ingestion.backfill_chunks d
                                      WHERE d.refresh_due
                                      ORDER BY d.backfill, d.chunk_from LIMIT 1)
RETURNING json_build_object('backfill', c.backfill, 'chunk', CASE WHEN c.refresh_due THEN c.chunk_from::text END)::text
