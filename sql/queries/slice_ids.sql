-- Ranges of trade ids that loaded objects hold, by their slices. $1: assets.
SELECT s.asset, s.first_trade_id, s.last_trade_id
  FROM ingestion.object_slices s
 WHERE s.missing_ids = 0 AND s.asset = ANY ($1::text[])
UNION ALL
-- Without their ids, the ticks of a slice are taken as a sequence, so that no hole is invented.
SELECT s.asset, coalesce(lower(r.ids), s.first_trade_id), coalesce(upper(r.ids) - 1, s.last_trade_id)
  FROM ingestion.object_slices s LEFT JOIN LATERAL unnest(s.ids) AS r (ids) ON true
 WHERE s.missing_ids > 0 AND s.asset = ANY ($1)
