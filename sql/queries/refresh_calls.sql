-- The statements that tell every continuous aggregate of a chunk of backfill $1 that came as a whole ($2: its beginning): plain
-- refreshes say that all is up to date, because nothing told them of its rows. A time bucket may reach over the chunk's edges.
-- Each must run by itself: TimescaleDB refuses it inside functions.
SELECT coalesce(json_agg(format('CALL %I.refresh_continuous_aggregate(%L, %L, %L, force => true)', n.nspname,
                                format('%I.%I', a.view_schema, a.view_name),
                                c.chunk_from - interval '1 day', c.chunk_to + interval '1 day')), '[]')::text
  FROM ingestion.backfill_chunks c
 CROSS JOIN timescaledb_information.continuous_aggregates a
  JOIN pg_extension e ON e.extname = 'timescaledb'
  JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE c.backfill = $1 AND c.chunk_from = $2::timestamptz
   AND a.hypertable_schema = 'market_data' AND a.hypertable_name = 'btc_ticks'
