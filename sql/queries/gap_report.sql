-- Notes the holes that were neither reported nor explained, as a whole or as a part of a larger one, and tells the
-- listeners of btc_ingest_gaps. Returns their number. $1: assets, $2 and $3: first and last trade ids.
WITH noted AS MATERIALIZED (
    SELECT n.asset, range_agg(int8range(n.first_trade_id, n.last_trade_id, '[]')) AS ids
      FROM ingestion.gap_notes n GROUP BY n.asset
), new AS (
    INSERT INTO ingestion.gap_notes (asset, first_trade_id, last_trade_id, kind, noted_by, noted_at)
    SELECT h.asset, h.low, h.high, 'reported', session_user, clock_timestamp()
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS h (asset, low, high)
      LEFT JOIN noted n ON n.asset = h.asset
     WHERE (n.ids @> int8range(h.low, h.high, '[]')) IS NOT TRUE
    ON CONFLICT DO NOTHING
    RETURNING asset, first_trade_id, last_trade_id
), assets AS (
    SELECT asset, count(*) AS gaps, sum(last_trade_id - first_trade_id + 1) AS missing FROM new GROUP BY asset
)
SELECT coalesce(sum(a.gaps), 0)::text
  FROM assets a
 CROSS JOIN LATERAL pg_notify('btc_ingest_gaps', json_build_object('asset', a.asset, 'gaps', a.gaps,
                                                                   'missing', a.missing)::text) AS told
