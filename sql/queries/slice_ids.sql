-- Ranges of trade ids that loaded objects hold, of the assets whose ids are a sequence. The ids of an asset that has
-- lost some, or has too many ranges, are read from its slices. $1: asset; null for all.
WITH by_slice AS MATERIALIZED (
    SELECT DISTINCT i.asset FROM ingestion.id_sets i WHERE i.kind <> 'held' AND ($1::text IS NULL OR i.asset = $1)
), no_sequence AS MATERIALIZED (
    SELECT a.asset FROM ingestion.assets a WHERE NOT a.sequential_ids
)
SELECT i.asset, lower(r.ids), coalesce(upper(r.ids) - 1, 9223372036854775807)
  FROM ingestion.id_sets i CROSS JOIN LATERAL unnest(i.ids) AS r (ids)
 WHERE i.kind = 'held' AND ($1::text IS NULL OR i.asset = $1)
   AND i.asset <> ALL (ARRAY(SELECT b.asset FROM by_slice b))
   AND i.asset <> ALL (ARRAY(SELECT n.asset FROM no_sequence n))
UNION ALL
SELECT s.asset, s.first_trade_id, s.last_trade_id
  FROM ingestion.object_slices s
 WHERE s.missing_ids = 0 AND s.asset = ANY (ARRAY(SELECT b.asset FROM by_slice b))
   AND s.asset <> ALL (ARRAY(SELECT n.asset FROM no_sequence n))
UNION ALL
-- Without their ids, the ticks of a slice are taken as a sequence, so that no hole is invented.
SELECT s.asset, coalesce(lower(r.ids), s.first_trade_id), coalesce(upper(r.ids) - 1, s.last_trade_id)
  FROM ingestion.object_slices s LEFT JOIN LATERAL unnest(s.ids) AS r (ids) ON true
 WHERE s.missing_ids > 0 AND s.asset = ANY (ARRAY(SELECT b.asset FROM by_slice b))
   AND s.asset <> ALL (ARRAY(SELECT n.asset FROM no_sequence n))
