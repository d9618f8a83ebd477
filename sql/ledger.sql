-- What is missing: holes in the trade ids of each asset, conditions of days, completeness. Everything is computed from
-- ingestion.object_slices, in which each load records the ids of its ticks in its own transaction. So the answer does
-- not depend on the order of the loads. The functions run with the privileges of their caller.

CREATE FUNCTION btc_ingest_internal.id_holes(only_asset text DEFAULT NULL)
RETURNS TABLE (asset text, first_trade_id bigint, last_trade_id bigint)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'id_holes_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.id_holes(text) IS
    'Trade ids between the lowest and the highest of an asset that no loaded object holds, one row per hole; '
    'only_asset null: of all assets whose ids are a sequence';

CREATE FUNCTION btc_ingest_internal.tick_of_id(asset text, trade_id bigint)
RETURNS TABLE (event_time timestamptz, loaded_at timestamptz, uri text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT coalesce((SELECT t.event_time FROM market_data.btc_ticks t
                      WHERE t.bucket_5m = s.bucket_5m AND t.symbol = s.asset AND t.trade_id = tick_of_id.trade_id),
                    CASE tick_of_id.trade_id WHEN s.last_trade_id THEN s.last_event_time ELSE s.first_event_time END),
           s.loaded_at, s.s3_uri
      FROM ingestion.object_slices s
     WHERE s.asset = tick_of_id.asset AND s.first_trade_id <= tick_of_id.trade_id
       AND s.last_trade_id >= tick_of_id.trade_id AND coalesce(s.ids @> tick_of_id.trade_id, true)
     ORDER BY s.first_trade_id DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.tick_of_id(text, bigint) IS
    'Time of a tick, and the object that it came from; no row if no loaded object holds it';

CREATE FUNCTION btc_ingest_internal.gap_rows(only_asset text DEFAULT NULL)
RETURNS TABLE (asset text, first_trade_id bigint, last_trade_id bigint, missing bigint, state text,
               before_time timestamptz, after_time timestamptz, since timestamptz, reason text, noted_by text,
               noted_at timestamptz, filled_by text, filled_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH holes AS MATERIALIZED (
        SELECT * FROM btc_ingest_internal.id_holes(only_asset)
    ), explained AS (
        SELECT n.asset, range_agg(int8range(n.first_trade_id, n.last_trade_id, '[]')) AS ids
          FROM ingestion.gap_notes n WHERE n.kind = 'explained' GROUP BY n.asset
    ), noted AS (
        SELECT n.asset, range_agg(int8range(n.first_trade_id, n.last_trade_id, '[]')) AS ids
          FROM ingestion.gap_notes n
         WHERE (only_asset IS NULL OR n.asset = only_asset)
           AND NOT EXISTS (SELECT FROM ingestion.assets a WHERE a.asset = n.asset AND NOT a.sequential_ids)
         GROUP BY n.asset
    ), filled AS (
        -- What was noted as a hole and is none any more.
        SELECT n.asset, lower(part.ids) AS low, upper(part.ids) - 1 AS high
          FROM noted n
          LEFT JOIN (SELECT h.asset, range_agg(int8range(h.first_trade_id, h.last_trade_id, '[]')) AS ids
                       FROM holes h GROUP BY h.asset) AS missing ON missing.asset = n.asset
         CROSS JOIN LATERAL unnest(n.ids - coalesce(missing.ids, '{}')) AS part (ids)
    )
    SELECT h.asset, h.first_trade_id, h.last_trade_id, h.last_trade_id - h.first_trade_id + 1,
           CASE WHEN e.ids @> int8range(h.first_trade_id, h.last_trade_id, '[]') THEN 'explained' ELSE 'open' END,
           b.event_time, a.event_time, greatest(b.loaded_at, a.loaded_at), n.reason, n.noted_by, n.noted_at,
           NULL::text, NULL::timestamptz
      FROM holes h
      LEFT JOIN explained e ON e.asset = h.asset
      LEFT JOIN LATERAL btc_ingest_internal.tick_of_id(h.asset, h.first_trade_id - 1) b ON true
      LEFT JOIN LATERAL btc_ingest_internal.tick_of_id(h.asset, h.last_trade_id + 1) a ON true
      LEFT JOIN LATERAL (SELECT g.reason, g.noted_by, g.noted_at FROM ingestion.gap_notes g
                          WHERE g.asset = h.asset AND g.kind = 'explained'
                            AND g.first_trade_id <= h.last_trade_id AND g.last_trade_id >= h.first_trade_id
                          ORDER BY g.noted_at DESC LIMIT 1) AS n ON true
    UNION ALL
    SELECT f.asset, f.low, f.high, f.high - f.low + 1, 'filled', b.event_time, a.event_time, NULL,
           n.reason, n.noted_by, n.noted_at, t.uri, t.loaded_at
      FROM filled f
      LEFT JOIN LATERAL btc_ingest_internal.tick_of_id(f.asset, f.high) t ON true
      LEFT JOIN LATERAL btc_ingest_internal.tick_of_id(f.asset, f.low) b ON true
      LEFT JOIN LATERAL btc_ingest_internal.tick_of_id(f.asset, f.high) a ON true
      LEFT JOIN LATERAL (SELECT g.reason, g.noted_by, g.noted_at FROM ingestion.gap_notes g
                          WHERE g.asset = f.asset AND g.first_trade_id <= f.high AND g.last_trade_id >= f.low
                          ORDER BY g.kind, g.noted_at DESC LIMIT 1) AS n ON true;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.gap_rows(text) IS
    'Rows of the view gaps; only_asset null: of all assets';

CREATE VIEW btc_ingest.gaps AS SELECT * FROM btc_ingest_internal.gap_rows();
COMMENT ON VIEW btc_ingest.gaps IS
    'Holes in the trade ids of each asset, between its lowest and its highest id: one row per hole, and one per hole '
    'that was noted and filled since';
COMMENT ON COLUMN btc_ingest.gaps.asset IS 'Symbol as stored';
COMMENT ON COLUMN btc_ingest.gaps.first_trade_id IS 'Lowest trade id of the hole';
COMMENT ON COLUMN btc_ingest.gaps.last_trade_id IS 'Highest trade id of the hole';
COMMENT ON COLUMN btc_ingest.gaps.missing IS 'Number of trade ids in the hole';
COMMENT ON COLUMN btc_ingest.gaps.state IS
    'open; explained: explain_gap() or import_incidents() gave a reason; filled: objects brought these ticks later';
COMMENT ON COLUMN btc_ingest.gaps.before_time IS
    'Event time of the last tick before the hole; of a filled one, of its first tick';
COMMENT ON COLUMN btc_ingest.gaps.after_time IS
    'Event time of the first tick behind the hole; of a filled one, of its last tick';
COMMENT ON COLUMN btc_ingest.gaps.since IS 'When both ticks around the hole were loaded; null for a filled one';
COMMENT ON COLUMN btc_ingest.gaps.reason IS 'Why the ticks are missing, if it was explained';
COMMENT ON COLUMN btc_ingest.gaps.noted_by IS 'Role that explained or reported the hole; null if none did';
COMMENT ON COLUMN btc_ingest.gaps.noted_at IS 'When it did';
COMMENT ON COLUMN btc_ingest.gaps.filled_by IS 'Object that brought the last tick of a filled hole; null otherwise';
COMMENT ON COLUMN btc_ingest.gaps.filled_at IS 'When that object was loaded; null for a hole that is not filled';

CREATE FUNCTION btc_ingest.explain_gap(asset text, first_trade_id bigint, last_trade_id bigint, reason text)
RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'explain_gap_wrapper';
COMMENT ON FUNCTION btc_ingest.explain_gap(text, bigint, bigint, text) IS
'Notes why ticks are missing. The view gaps then shows the holes as explained, also what is left of them when late
objects fill them in part. Holes that reach beyond the given ids are explained within them only.

asset: symbol as stored, e.g. BTCUSDT.
first_trade_id: lowest trade id.
last_trade_id: highest trade id.
reason: why the ticks are missing.

Returns the number of holes.';

CREATE FUNCTION btc_ingest.import_incidents(incidents jsonb, tolerance interval DEFAULT '1 minute')
RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'import_incidents_wrapper';
COMMENT ON FUNCTION btc_ingest.import_incidents(jsonb, interval) IS
'Explains the holes that lie within known outages.

incidents: JSON array of objects with the keys from and to (times), status and details (which become the reason), and
  asset for an outage of one asset only.
tolerance: how far the ticks around a hole may lie outside the outage. Default 1 minute.

Returns the number of holes that were explained.';

CREATE FUNCTION btc_ingest.report_gaps() RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'report_gaps_wrapper';
COMMENT ON FUNCTION btc_ingest.report_gaps() IS
    'Notes the holes that were not noted before, and notifies the listeners of btc_ingest_gaps: per asset a JSON '
    'object with asset, gaps and missing. The view gaps shows when a noted hole is filled. Returns the number of new '
    'holes';

CREATE FUNCTION btc_ingest.declare_asset(asset text, sequential_ids boolean) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'declare_asset_wrapper';
COMMENT ON FUNCTION btc_ingest.declare_asset(text, boolean) IS
'Declares whether the trade ids of an asset are a sequence. If they are none, the asset has no gaps, and slices without
an object are missing instead.

asset: symbol as stored, e.g. BTCUSDT.
sequential_ids: whether every trade id between two others is a tick.';

CREATE FUNCTION btc_ingest_internal.slice_days("from" timestamptz, "to" timestamptz)
RETURNS TABLE (asset text, day timestamptz, ticks bigint, slices bigint, out_of_order bigint, max_time_skew interval,
               last_loaded timestamptz)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'slice_days_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.slice_days(timestamptz, timestamptz) IS
    'What loaded objects hold of each asset on each UTC day, each tick counted once';

CREATE FUNCTION btc_ingest.conditions("from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity')
RETURNS TABLE (asset text, day date, condition text, ticks bigint, open_gaps bigint, explained_gaps bigint,
               missing_ids bigint, missing_per_million double precision, missing_slices bigint, waiting bigint,
               quarantined bigint, rejected bigint, conflicting bigint, out_of_order bigint, max_time_skew interval,
               last_modified timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH loaded AS MATERIALIZED (
        SELECT * FROM btc_ingest_internal.slice_days(date_bin('1 day', "from", 'epoch'::timestamptz), "to")
    ), holes AS MATERIALIZED (
        SELECT g.asset, g.state, g.missing, date_bin('5 minutes', g.before_time, 'epoch'::timestamptz) AS before,
               date_bin('5 minutes', g.after_time, 'epoch'::timestamptz) AS after
          FROM btc_ingest_internal.gap_rows() g WHERE g.state <> 'filled'
    ), hole_days AS (
        -- A hole counts on the day on which it begins; its slices are missing on every day.
        SELECT h.asset, d.day, count(*) FILTER (WHERE h.state = 'open' AND d.place = 1) AS open,
               count(*) FILTER (WHERE h.state = 'explained' AND d.place = 1) AS explained,
               sum(h.missing) FILTER (WHERE h.state = 'open' AND d.place = 1) AS missing,
               sum(greatest(0, extract(epoch FROM least(h.after, d.day + interval '24 hours')
                               - greatest(h.before + interval '5 minutes', d.day)) / 300)) AS slices
          FROM holes h
         CROSS JOIN LATERAL generate_series(date_bin('1 day', h.before, 'epoch'::timestamptz), h.after,
                                            interval '24 hours') WITH ORDINALITY AS d (day, place)
         WHERE d.day < "to" AND d.day + interval '24 hours' > "from"
         GROUP BY 1, 2
    ), without_sequence AS (
        SELECT l.asset, d.day
          FROM (SELECT s.asset, min(s.day) AS first, max(s.day) AS last FROM loaded s
                  JOIN ingestion.assets a ON a.asset = s.asset AND NOT a.sequential_ids GROUP BY s.asset) AS l
         CROSS JOIN LATERAL generate_series(l.first, l.last, interval '24 hours') AS d (day)
    ), waiting AS (
        SELECT q.asset, date_bin('1 day', q.bucket_5m, 'epoch'::timestamptz) AS day, count(*) AS objects
          FROM btc_ingest_internal.objects_waiting() q
         WHERE q.bucket_5m >= date_bin('1 day', "from", 'epoch'::timestamptz) AND q.bucket_5m < "to"
         GROUP BY 1, 2
    ), refused AS (
        SELECT f.asset, date_bin('1 day', f.bucket_5m, 'epoch'::timestamptz) AS day, count(*) AS objects
          FROM btc_ingest_internal.objects_failed() f
         WHERE f.status = 'quarantined' AND f.bucket_5m >= date_bin('1 day', "from", 'epoch'::timestamptz)
           AND f.bucket_5m < "to"
         GROUP BY 1, 2
    ), rows AS (
        SELECT s.asset, date_bin('1 day', s.bucket_5m, 'epoch'::timestamptz) AS day,
               sum(o.rows_rejected)::bigint AS rejected,
               sum(o.rows_conflicting + o.rows_replaced)::bigint AS conflicting
          FROM ingestion.objects o
         -- The rows of an object count at its first slice.
         CROSS JOIN LATERAL (SELECT i.asset, i.bucket_5m FROM ingestion.object_slices i
                              WHERE i.s3_uri = o.s3_uri AND i.etag = o.etag
                              ORDER BY i.bucket_5m, i.asset LIMIT 1) AS s
         WHERE o.rows_rejected > 0 OR o.rows_conflicting > 0 OR o.rows_replaced > 0
         GROUP BY 1, 2
    ), days AS (
        SELECT d.asset, d.day FROM loaded d UNION SELECT d.asset, d.day FROM hole_days d
        UNION SELECT d.asset, d.day FROM without_sequence d UNION SELECT d.asset, d.day FROM waiting d
        UNION SELECT d.asset, d.day FROM refused d
    )
    SELECT d.asset, (d.day AT TIME ZONE 'UTC')::date,
           CASE WHEN w.objects > 0 THEN 'pending'
                WHEN l.slices IS NULL THEN 'missing'
                WHEN h.open > 0 OR h.slices > 0 OR r.objects > 0 THEN 'degraded'
                ELSE 'available' END,
           coalesce(l.ticks, 0), coalesce(h.open, 0), coalesce(h.explained, 0), coalesce(h.missing, 0)::bigint,
           coalesce(h.missing, 0)::double precision * 1000000
               / nullif(coalesce(l.ticks, 0) + coalesce(h.missing, 0), 0),
           coalesce(h.slices, 0)::bigint, coalesce(w.objects, 0), coalesce(r.objects, 0), coalesce(x.rejected, 0),
           coalesce(x.conflicting, 0), coalesce(l.out_of_order, 0), l.max_time_skew, l.last_loaded
      FROM days d
      LEFT JOIN loaded l ON (l.asset, l.day) = (d.asset, d.day)
      LEFT JOIN hole_days h ON (h.asset, h.day) = (d.asset, d.day)
      LEFT JOIN waiting w ON (w.asset, w.day) = (d.asset, d.day)
      LEFT JOIN refused r ON (r.asset, r.day) = (d.asset, d.day)
      LEFT JOIN rows x ON (x.asset, x.day) = (d.asset, d.day)
     ORDER BY d.asset, d.day;
END
$$;
COMMENT ON FUNCTION btc_ingest.conditions(timestamptz, timestamptz) IS
'The condition of each asset on each UTC day.

from: a time on the first day. Default: no limit.
to: end (exclusive) of the days. Default: no limit.

Returns one row per asset and day:
asset: symbol as stored; null for waiting objects whose asset is unknown.
day: the day in UTC.
condition: "pending": objects of the day wait to be loaded; "missing": no slice is loaded; "degraded": open gaps,
  missing slices or quarantined objects; "available": none of these.
ticks: ticks of loaded objects, each counted once.
open_gaps: holes without a reason that begin on the day.
explained_gaps: holes with a reason that begin on the day.
missing_ids: trade ids in the open gaps.
missing_per_million: missing ids per million ids of the day.
missing_slices: slices between two that are loaded, in which trade ids are missing and of which nothing is loaded.
waiting: objects that wait to be loaded.
quarantined: objects that are quarantined.
rejected: rows of the day''s objects that are no ticks.
conflicting: ticks of the day''s objects that were stored with other values.
out_of_order: ticks whose event time is before that of the tick with the next lower trade id.
max_time_skew: largest difference between event time and trade time.
last_modified: when an object last brought ticks of the day.';

CREATE FUNCTION btc_ingest.completeness(asset text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (complete boolean, waiting bigint, quarantined bigint, open_gaps bigint, missing_ids bigint,
               missing_slices bigint, loaded_from timestamptz, loaded_to timestamptz, reason text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    sequential CONSTANT boolean := NOT EXISTS (SELECT FROM ingestion.assets a
                                                WHERE a.asset = completeness.asset AND NOT a.sequential_ids);
BEGIN
    RETURN QUERY
    WITH loaded AS (
        -- By the index, from either end.
        SELECT (SELECT s.first_event_time FROM ingestion.object_slices s WHERE s.asset = completeness.asset
                 ORDER BY s.bucket_5m LIMIT 1) AS first,
               (SELECT max(l.last_event_time)
                  FROM (SELECT s.last_event_time FROM ingestion.object_slices s WHERE s.asset = completeness.asset
                         ORDER BY s.bucket_5m DESC LIMIT 1) AS l) AS last
    ), objects AS (
        SELECT count(*) FILTER (WHERE o.status IN ('pending', 'failed')) AS waiting,
               count(*) FILTER (WHERE o.status = 'quarantined') AS quarantined
          FROM ingestion.objects o
         WHERE o.status IN ('pending', 'failed', 'quarantined') AND o.span_from < "to" AND o.span_to > "from"
           AND coalesce(o.metadata ->> 'symbol', completeness.asset) = completeness.asset
           -- An object that its registry rows name concerns their slices only.
           AND (NOT EXISTS (SELECT FROM landing.raw_blobs_5m r WHERE r.s3_uri = o.s3_uri)
                OR EXISTS (SELECT FROM landing.raw_blobs_5m r
                            WHERE r.s3_uri = o.s3_uri AND r.asset = completeness.asset
                              AND r.bucket_5m < "to" AND r.bucket_5m + interval '5 minutes' > "from"))
    ), registered AS (
        SELECT count(*) AS waiting FROM landing.raw_blobs_5m r
         WHERE r.asset = completeness.asset AND r.status = 'pending' AND r.queued_at IS NULL
           AND r.bucket_5m < "to" AND r.bucket_5m + interval '5 minutes' > "from"
           AND NOT EXISTS (SELECT FROM ingestion.objects o
                            WHERE o.s3_uri = r.s3_uri AND o.status IN ('pending', 'failed'))
    ), gaps AS (
        SELECT count(*) AS open, coalesce(sum(g.missing), 0)::bigint AS missing
          FROM btc_ingest_internal.gap_rows(completeness.asset) g
         WHERE g.state = 'open' AND g.before_time < "to" AND g.after_time >= "from"
    ), slices AS (
        -- Where trade ids are no sequence, only a missing slice shows that ticks are missing.
        SELECT CASE WHEN sequential THEN 0 ELSE
                   greatest(0, extract(epoch FROM date_bin('5 minutes', least("to", l.last), 'epoch'::timestamptz)
                               - date_bin('5 minutes', greatest("from", l.first), 'epoch'::timestamptz)) / 300)
                   - (SELECT count(DISTINCT s.bucket_5m) FROM ingestion.object_slices s
                       WHERE s.asset = completeness.asset
                         AND s.bucket_5m >= date_bin('5 minutes', greatest("from", l.first), 'epoch'::timestamptz)
                         AND s.bucket_5m < date_bin('5 minutes', least("to", l.last), 'epoch'::timestamptz)) END
               AS missing
          FROM loaded l
    ), reasons AS (
        SELECT o.waiting + r.waiting AS waiting, o.quarantined, g.open, g.missing, s.missing::bigint AS slices,
               l.first, l.last,
               concat_ws('; ',
                   CASE WHEN l.first IS NULL THEN 'nothing is loaded' END,
                   CASE WHEN l.first >= "from" + interval '5 minutes' THEN 'the first tick is at ' || l.first END,
                   CASE WHEN l.last < "to" - interval '5 minutes' THEN 'the last tick is at ' || l.last END,
                   CASE WHEN o.waiting + r.waiting > 0 THEN o.waiting + r.waiting || ' objects wait' END,
                   CASE WHEN o.quarantined > 0 THEN o.quarantined || ' objects are quarantined' END,
                   CASE WHEN g.open > 0 THEN g.open || ' gaps are open' END,
                   CASE WHEN s.missing > 0 THEN s.missing::bigint || ' slices are missing' END) AS reason
          FROM objects o, registered r, gaps g, slices s, loaded l
    )
    SELECT r.reason = '', r.waiting, r.quarantined, r.open, r.missing, r.slices, r.first, r.last, nullif(r.reason, '')
      FROM reasons r;
END
$$;
COMMENT ON FUNCTION btc_ingest.completeness(text, timestamptz, timestamptz) IS
'Says whether an asset is complete in a range, as far as is known.

asset: symbol as stored, e.g. BTCUSDT.
from: beginning of the range.
to: end (exclusive) of the range.

Returns one row:
complete: whether nothing waits, is quarantined, missing or open, and ticks are loaded from first to last bucket.
waiting: objects that wait to be loaded and may hold ticks of the range.
quarantined: quarantined objects that may hold ticks of the range.
open_gaps: holes without a reason that touch the range.
missing_ids: trade ids in these gaps.
missing_slices: slices of which nothing is loaded, where trade ids are no sequence; otherwise 0.
loaded_from: event time of the asset''s first tick; null if none is loaded.
loaded_to: event time of the asset''s last tick.
reason: why it is not complete; null if it is.';

CREATE FUNCTION btc_ingest.quality_report("from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity')
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN (
        WITH days AS MATERIALIZED (
            SELECT * FROM btc_ingest.conditions("from", "to")
        ), assets AS (
            SELECT coalesce(d.asset, 'unknown asset') AS asset, min(d.day) AS first, max(d.day) AS last,
                   count(*) FILTER (WHERE d.condition = 'available') AS available,
                   count(*) FILTER (WHERE d.condition = 'degraded') AS degraded,
                   count(*) FILTER (WHERE d.condition = 'pending') AS pending,
                   count(*) FILTER (WHERE d.condition = 'missing') AS missing,
                   sum(d.ticks) AS ticks, sum(d.open_gaps) AS gaps, sum(d.missing_ids) AS ids,
                   sum(d.explained_gaps) AS explained, sum(d.rejected) AS rejected, sum(d.conflicting) AS conflicting
              FROM days d GROUP BY d.asset
        ), numbered AS (
            SELECT d.*, d.day - row_number() OVER (
                       PARTITION BY d.asset, d.condition, d.open_gaps, d.missing_ids, d.missing_per_million,
                                    d.missing_slices, d.waiting, d.quarantined ORDER BY d.day)::integer AS run
              FROM days d WHERE d.condition <> 'available'
        ), runs AS (
            SELECT n.asset, min(n.day) AS first, max(n.day) AS last, count(*) AS days, n.condition, n.open_gaps,
                   n.missing_ids, n.missing_per_million, n.missing_slices, n.waiting, n.quarantined
              FROM numbered n
             GROUP BY n.asset, n.condition, n.open_gaps, n.missing_ids, n.missing_per_million, n.missing_slices,
                      n.waiting, n.quarantined, n.run
        ), lines AS (
            SELECT 1 AS part, a.asset AS key1, '' AS key2,
                   format(E'%s, %s to %s: %s days available, %s degraded, %s pending, %s missing\n'
                          '  %s ticks, %s open gaps (%s ids), %s explained gaps, %s rejected rows, %s conflicting rows',
                          a.asset, a.first, a.last, a.available, a.degraded, a.pending, a.missing, a.ticks, a.gaps,
                          a.ids, a.explained, a.rejected, a.conflicting) AS line
              FROM assets a
            UNION ALL
            SELECT 2, coalesce(r.asset, 'unknown asset'), r.first::text,
                   format('%s %s: %s, %s open gaps, %s missing ids (%s per million), %s missing slices, '
                          '%s objects wait, %s are quarantined',
                          coalesce(r.asset, 'unknown asset'),
                          CASE WHEN r.days > 1 THEN format('%s to %s, on each of %s days', r.first, r.last, r.days)
                               ELSE r.first::text END,
                          r.condition, r.open_gaps, r.missing_ids,
                          round(coalesce(r.missing_per_million, 0)::numeric, 1), r.missing_slices,
                          r.waiting, r.quarantined)
              FROM runs r
        )
        SELECT coalesce(string_agg(line, E'\n' ORDER BY part, key1, key2), 'nothing is loaded') FROM lines);
END
$$;
COMMENT ON FUNCTION btc_ingest.quality_report(timestamptz, timestamptz) IS
'The conditions of a range as text, for example for a mail: a summary per asset, then a line per day that is not
available. Days that follow each other and have the same figures share a line.

from: a time on the first day. Default: no limit.
to: end (exclusive) of the days. Default: no limit.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest_internal.id_holes(text), btc_ingest_internal.tick_of_id(text, bigint),
    btc_ingest_internal.gap_rows(text),
    btc_ingest_internal.slice_days(timestamptz, timestamptz), btc_ingest.conditions(timestamptz, timestamptz),
    btc_ingest.completeness(text, timestamptz, timestamptz), btc_ingest.quality_report(timestamptz, timestamptz)
TO btc_ingest_reader;
GRANT SELECT ON btc_ingest.gaps TO btc_ingest_reader;
GRANT EXECUTE ON FUNCTION btc_ingest.report_gaps() TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.explain_gap(text, bigint, bigint, text), btc_ingest.import_incidents(jsonb, interval),
    btc_ingest.declare_asset(text, boolean)
TO btc_ingest_admin;
