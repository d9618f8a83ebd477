-- Records per asset how many holes have no reason, for the view lag. $1: assets, $2 and $3: first and last trade ids of
-- all holes, $4: the asset that they are of; null: of all.
WITH RECURSIVE assets AS (
    (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
    UNION ALL
    SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
      FROM assets a WHERE a.asset IS NOT NULL
), explained AS (
    SELECT n.asset, range_agg(int8range(n.first_trade_id, n.last_trade_id, '[]')) AS ids
      FROM ingestion.gap_notes n WHERE n.kind = 'explained' GROUP BY n.asset
), open AS (
    SELECT h.asset, count(*) AS gaps, sum(h.high - h.low + 1)::bigint AS ids
      FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS h (asset, low, high)
      LEFT JOIN explained e ON e.asset = h.asset
     WHERE (e.ids @> int8range(h.low, h.high, '[]')) IS NOT TRUE
     GROUP BY h.asset
)
INSERT INTO ingestion.assets AS k (asset, open_gaps, missing_ids, gaps_counted_at)
SELECT a.asset, coalesce(o.gaps, 0), coalesce(o.ids, 0), clock_timestamp()
  FROM assets a LEFT JOIN open o ON o.asset = a.asset
 WHERE a.asset IS NOT NULL AND ($4::text IS NULL OR a.asset = $4)
 ORDER BY a.asset
ON CONFLICT (asset) DO UPDATE
   SET open_gaps = excluded.open_gaps, missing_ids = excluded.missing_ids, gaps_counted_at = excluded.gaps_counted_at
