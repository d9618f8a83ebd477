-- The statements that refresh every continuous aggregate over an attached chunk. The refresh is forced, because a
-- plain one may ignore the log entry of an attached chunk. Its range is wider than the chunk, because only whole
-- buckets are refreshed and a bucket may reach over the edges of the chunk. Each statement must run alone:
-- TimescaleDB refuses it in functions. $1: backfill, $2: start of the chunk.
SELECT coalesce(json_agg(format('CALL %I.refresh_continuous_aggregate(%L, %L, %L, force => true)', n.nspname,
                                format('%I.%I', a.view_schema, a.view_name),
                                c.chunk_from - greatest(w.width, interval '1 day'),
                                c.chunk_to + greatest(w.width, interval '1 day'))), '[]')::text
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
