-- How many holes have no reason, and how many trade ids they have. $1: assets, $2 and $3: first and last trade ids of
-- all holes.
WITH explained AS (
    SELECT n.asset, range_agg(int8range(n.first_trade_id, n.last_trade_id, '[]')) AS ids
      FROM ingestion.gap_notes n WHERE n.kind = 'explained' GROUP BY n.asset
)
SELECT json_build_array(count(*), coalesce(sum(h.high - h.low + 1), 0))::text
  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS h (asset, low, high)
  LEFT JOIN explained e ON e.asset = h.asset
 WHERE (e.ids @> int8range(h.low, h.high, '[]')) IS NOT TRUE
