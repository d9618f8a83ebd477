-- The statements that tell every continuous aggregate of a chunk of backfill $1 that came as a whole ($2: its beginning): plain
-- refreshes say that all is up to date where they do not look at what was noted. A bucket of theirs may reach over the chunk's edges, and only whole ones
-- are refreshed.
-- Each must run by itself: TimescaleDB refuses it inside functions.
SELECT coalesce(json_agg(format('CALL %I.refresh_continuous_aggregate(%L, %L, %L, force => true)', n.nspname,
                                format('%I.%I', a.view_schema, a.view_name),
                                c.chunk_from - greatest(w.width, interval '1 day'), c.chunk_to + greatest(w.width, interval '1 day'))), '[]')::text
  FROM ingestion.backfill_chunks c
 CROSS JOIN timescaledb_information.continuous_aggregates a
  LEFT JOIN LATERAL (SELECT max(f.bucket_width::interval) AS width
                       FROM _timescaledb_catalog.continuous_agg g
                       JOIN _timescaledb_catalog.continuous_aggs_bucket_function f USING (mat_hypertable_id)
                      WHERE g.user_view_schema = a.view_schema AND g.user_view_name = a.view_name) AS w ON true
  JOIN pg_extension e ON e.extname = 'timescaledb'
  JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE c.backfill = $1 AND c.chunk_from = $2::timestamptz
   AND a.hypertable_schema = 'market_data' AND a.hypertable_name = 'btc_ticks'
