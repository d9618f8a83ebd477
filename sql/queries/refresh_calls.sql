-- The statements that refresh every continuous aggregate over an attached chunk. The refresh is forced, because a plain
-- one may ignore the log entry of an attached chunk. Its range is wider than the chunk, because only whole buckets are
-- refreshed and a bucket may reach over the edges of the chunk. Beyond the edges, candles of ticks that were dropped
-- would be lost: those of create_candles() are refreshed within the chunk, and the next refresh of candles finds what
-- is left. Ranges that are recorded as dropped are cut out of all. Each statement must run alone: TimescaleDB refuses
-- it in functions. The functions of a view run with the privileges of this session's role, so only views of that role
-- are refreshed, or of superusers by a superuser. They are named by oid, because the owner of a schema could put
-- another view in the place of one. The settings of a worker write the times of the statements in UTC and in ISO 8601.
-- $1: backfill, $2: start of the chunk.
SELECT coalesce(json_agg(format('CALL %I.refresh_continuous_aggregate(%L, timestamptz %L, timestamptz %L, '
                                'force => true)', n.nspname, v.oid, lower(p.piece), upper(p.piece))), '[]')::text
  FROM ingestion.backfill_chunks c
 CROSS JOIN timescaledb_information.continuous_aggregates a
  LEFT JOIN ingestion.candles k ON a.view_schema = 'market_data' AND k.aggregate = a.view_name
  LEFT JOIN LATERAL (SELECT max(f.bucket_width::interval) AS width
                       FROM _timescaledb_catalog.continuous_agg g
                       JOIN _timescaledb_catalog.continuous_aggs_bucket_function f USING (mat_hypertable_id)
                      WHERE g.user_view_schema = a.view_schema AND g.user_view_name = a.view_name) AS b ON true
 CROSS JOIN LATERAL (
     SELECT c.chunk_from - greatest(b.width, interval '1 day') AS from_time,
            c.chunk_to + greatest(b.width, interval '1 day') AS to_time
      WHERE k.name IS NULL
     UNION ALL
     SELECT date_bin(b.width, c.chunk_from + b.width - interval '1 microsecond', '1970-01-01 00:00:00+00'),
            date_bin(b.width, c.chunk_to, '1970-01-01 00:00:00+00')
      WHERE k.name IS NOT NULL) AS w
 CROSS JOIN LATERAL unnest(
     CASE WHEN w.from_time < w.to_time THEN tstzmultirange(tstzrange(w.from_time, w.to_time)) ELSE '{}' END
     - coalesce((SELECT range_agg(tstzrange(d.from_time, d.to_time)) FROM ops.dropped_ranges d
                  WHERE d.restored_at IS NULL), '{}')
     -- Candles that an enabled policy has dropped.
     - coalesce((SELECT range_agg(tstzrange(h.from_time, h.to_time)) FROM ops.chunk_drops h
                   JOIN ops.retention_jobs j ON j.job_name = h.job_name AND j.enabled
                  WHERE h.hypertable = 'market_data.' || quote_ident(k.aggregate) AND h.dropped_at IS NOT NULL), '{}'))
       AS p (piece)
  JOIN pg_namespace s ON s.nspname = a.view_schema
  JOIN pg_class v ON (v.relnamespace, v.relname) = (s.oid, a.view_name)
  JOIN pg_roles o ON o.oid = v.relowner
  JOIN pg_roles me ON me.rolname = session_user AND (me.oid = o.oid OR (me.rolsuper AND o.rolsuper))
  JOIN pg_extension e ON e.extname = 'timescaledb'
  JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE c.backfill = $1 AND c.chunk_from = $2
   AND a.hypertable_schema = 'market_data' AND a.hypertable_name = 'btc_ticks'
