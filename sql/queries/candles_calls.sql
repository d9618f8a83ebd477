-- The statements that refresh the continuous aggregates of candles, in the session of their owner. TimescaleDB itself
-- knows what has changed since the last refresh. A range without a chunk, or that is recorded as dropped, is left out:
-- the candles of its ticks stay as they are. So is a range whose candles an enabled policy has dropped. The last ten
-- minutes are left out as well, because they change still, and are computed when they are read. A range that
-- refresh_candles() wants is computed again in any case. An aggregate without its history gets it week by week. Each
-- statement must run alone: TimescaleDB refuses it in functions. The functions of an aggregate run with the privileges
-- of this session's role, so only aggregates of that role are refreshed, or of superusers by a superuser. They are
-- named by oid, because the owner of a schema could put another view in the place of one. The settings of a worker
-- write the times of the statements in UTC and in ISO 8601.
WITH runs AS (
    SELECT lower(r.range) AS first, upper(r.range) AS after
      FROM (SELECT range_agg(tstzrange(c.range_start, c.range_end)) AS ranges
              FROM timescaledb_information.chunks c
             WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks') AS existing
     CROSS JOIN (SELECT coalesce(range_agg(tstzrange(d.from_time, d.to_time)), '{}') AS ranges
                   FROM ops.dropped_ranges d WHERE d.restored_at IS NULL) AS dropped
     CROSS JOIN LATERAL unnest(existing.ranges - dropped.ranges) AS r (range)
), ours AS (
    SELECT c.name, v.oid AS view, greatest(c.width, interval '5 minutes') AS step, c.refreshed_at IS NULL AS unfilled,
           c.wanted_from, c.wanted_to,
           coalesce((SELECT range_agg(tstzrange(k.from_time, k.to_time)) FROM ops.chunk_drops k
                       JOIN ops.retention_jobs j ON j.job_name = k.job_name AND j.enabled
                      WHERE k.hypertable = 'market_data.' || quote_ident(c.aggregate) AND k.dropped_at IS NOT NULL),
                    '{}') AS dropped
      FROM ingestion.candles c
      JOIN pg_class v ON v.relname = c.aggregate AND v.relnamespace = to_regnamespace('market_data')
      JOIN timescaledb_information.continuous_aggregates a
        ON a.view_schema = 'market_data' AND a.view_name = c.aggregate
      JOIN pg_roles o ON o.oid = v.relowner
      JOIN pg_roles me ON me.rolname = session_user AND (me.oid = o.oid OR (me.rolsuper AND o.rolsuper))
), wanted AS (
    SELECT o.name, o.view, o.step, o.dropped, o.unfilled, false AS force, '-infinity'::timestamptz AS first,
           clock_timestamp() - interval '10 minutes' AS after
      FROM ours o
    UNION ALL
    -- Whole steps around the range.
    SELECT o.name, o.view, o.step, o.dropped, false, true, date_bin(o.step, o.wanted_from, '1970-01-01 00:00:00+00'),
           date_bin(o.step, o.wanted_to - interval '1 microsecond', '1970-01-01 00:00:00+00') + o.step
      FROM ours o WHERE o.wanted_from IS NOT NULL
), windows AS (
    SELECT w.*,
           date_bin(w.step, greatest(r.first, w.first) + w.step - interval '1 microsecond', '1970-01-01 00:00:00+00')
               AS from_time,
           date_bin(w.step, least(r.after, w.after), '1970-01-01 00:00:00+00') AS to_time
      FROM wanted w
     CROSS JOIN (SELECT t.first, t.after FROM runs t) AS t
     CROSS JOIN LATERAL (SELECT lower(p.piece) AS first, upper(p.piece) AS after
                           FROM unnest(tstzmultirange(tstzrange(t.first, t.after)) - w.dropped) AS p (piece)) AS r
), pieces AS (
    SELECT w.name, w.view, w.force, p.start AS from_time,
           CASE WHEN w.unfilled THEN least(p.start + interval '168 hours', w.to_time) ELSE w.to_time END AS to_time
      FROM windows w
     CROSS JOIN LATERAL generate_series(w.from_time, CASE WHEN w.unfilled THEN w.to_time - interval '1 microsecond'
                                                          ELSE w.from_time END, interval '168 hours') AS p (start)
     WHERE w.from_time < w.to_time
)
SELECT coalesce(json_agg(json_build_object('name', o.name, 'wanted_from', o.wanted_from::text,
                                           'wanted_to', o.wanted_to::text, 'calls', k.calls) ORDER BY o.name),
                '[]')::text
  FROM ours o
 CROSS JOIN LATERAL (
     SELECT coalesce(json_agg(format('CALL %I.refresh_continuous_aggregate(%L, timestamptz %L, timestamptz %L, '
                                     'force => %L)', n.nspname, p.view, p.from_time, p.to_time, p.force)
                              ORDER BY p.force DESC, p.from_time), '[]') AS calls
       FROM pieces p
       JOIN pg_extension e ON e.extname = 'timescaledb' JOIN pg_namespace n ON n.oid = e.extnamespace
      WHERE p.name = o.name) AS k
