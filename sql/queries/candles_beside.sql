-- The statements that compute candles of ranges that no refresh may reach: retention has dropped ticks of one asset
-- there, and another asset has all of its own. TimescaleDB's refresh knows no assets, and would delete the candles of
-- the dropped ticks. So the candles of the other asset are computed here, a whole step of the aggregate at a time,
-- without a step in which ticks of it are dropped as well, and without the last ten minutes. Without a range, only what
-- refresh_candles() wants or loads have changed since the last refresh; an hour more, because a load is recorded with
-- the time at which it began.
-- For the owner of the tables, whose aggregates they are; nothing in a transaction whose snapshot may be older than the
-- lock under which this runs. $1 and $2: start and end (exclusive) of a range that is computed in any case, or null.
WITH RECURSIVE assets AS (
    (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
    UNION ALL
    SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
      FROM assets a WHERE a.asset IS NOT NULL
), open AS (
    SELECT d.asset, d.from_time, d.to_time FROM ops.dropped_ranges d WHERE d.restored_at IS NULL
), chunks AS MATERIALIZED (
    SELECT c.range_start, c.range_end FROM timescaledb_information.chunks c
     WHERE c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
       AND EXISTS (SELECT FROM open d WHERE d.from_time < c.range_end AND d.to_time > c.range_start)
       AND ($1::timestamptz IS NULL OR (c.range_start < $2::timestamptz AND c.range_end > $1))
), ours AS (
    SELECT c.name, c.aggregate, c.refreshed_at, c.wanted_from, c.wanted_to,
           greatest(c.width, interval '5 minutes') AS step,
           format('%I.%I', h.schema_name, h.table_name) AS stored,
           format('%I.%I', g.direct_view_schema, g.direct_view_name) AS computed,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
             WHERE a.attrelid = format('%I.%I', h.schema_name, h.table_name)::regclass
               AND a.attnum > 0 AND NOT a.attisdropped) AS columns
      FROM ingestion.candles c
      JOIN _timescaledb_catalog.continuous_agg g
        ON g.user_view_schema = 'market_data' AND g.user_view_name = c.aggregate
      JOIN _timescaledb_catalog.hypertable h ON h.id = g.mat_hypertable_id
      JOIN pg_class v ON v.relname = c.aggregate AND v.relnamespace = to_regnamespace('market_data')
      JOIN pg_roles o ON o.oid = v.relowner
      JOIN pg_roles me ON me.rolname = current_user AND (me.oid = o.oid OR (me.rolsuper AND o.rolsuper))
     WHERE current_setting('transaction_isolation') = 'read committed'
), pieces AS (
    SELECT o.name, o.stored, o.computed, o.columns, a.asset, lower(p.piece) AS from_time, upper(p.piece) AS to_time
      FROM chunks k CROSS JOIN assets a CROSS JOIN ours o
     CROSS JOIN LATERAL unnest(
         tstzmultirange(tstzrange(date_bin(o.step, k.range_start, '1970-01-01 00:00:00+00'),
                                  date_bin(o.step, k.range_end - interval '1 microsecond', '1970-01-01 00:00:00+00')
                                  + o.step))
         * tstzmultirange(tstzrange(NULL, date_bin(o.step, clock_timestamp() - interval '10 minutes',
                                                   '1970-01-01 00:00:00+00')))
         - coalesce((SELECT range_agg(tstzrange(date_bin(o.step, d.from_time, '1970-01-01 00:00:00+00'),
                                                date_bin(o.step, d.to_time - interval '1 microsecond',
                                                         '1970-01-01 00:00:00+00') + o.step))
                       FROM open d WHERE d.asset = a.asset), '{}')
         -- Candles that an enabled policy has dropped.
         - coalesce((SELECT range_agg(tstzrange(h.from_time, h.to_time)) FROM ops.chunk_drops h
                       JOIN ops.retention_jobs j ON j.job_name = h.job_name AND j.enabled
                      WHERE h.hypertable = 'market_data.' || quote_ident(o.aggregate)
                        AND h.dropped_at IS NOT NULL), '{}'))
           AS p (piece)
     WHERE NOT EXISTS (SELECT FROM open d WHERE d.asset = a.asset AND d.from_time < k.range_end
                          AND d.to_time > k.range_start)
       AND EXISTS (SELECT FROM ingestion.object_slices s
                     JOIN ingestion.objects b ON b.s3_uri = s.s3_uri AND b.etag = s.etag
                    WHERE s.asset = a.asset AND s.bucket_5m >= k.range_start AND s.bucket_5m < k.range_end
                      AND (b.loaded_at >= o.refreshed_at - interval '1 hour' OR o.refreshed_at IS NULL
                           OR $1 IS NOT NULL OR (o.wanted_from < k.range_end AND o.wanted_to > k.range_start)))
)
SELECT coalesce(json_agg(json_build_array(
           format('DELETE FROM %s WHERE bucket_5m >= %L AND bucket_5m < %L AND symbol = %L',
                  p.stored, p.from_time, p.to_time, p.asset),
           format('INSERT INTO %s (%s) SELECT %s FROM %s WHERE bucket_5m >= %L AND bucket_5m < %L AND symbol = %L',
                  p.stored, p.columns, p.columns, p.computed, p.from_time, p.to_time, p.asset))
                         ORDER BY p.name, p.asset, p.from_time), '[]')::text
  FROM pieces p
