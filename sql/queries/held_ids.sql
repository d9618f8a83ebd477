-- Ranges of trade ids that loaded objects hold, as they are gathered, of the assets whose ids are a sequence. An asset
-- whose slices must be read instead has one row without a range. $1: asset; null for all.
WITH by_slice AS MATERIALIZED (
    SELECT DISTINCT i.asset FROM ingestion.id_sets i WHERE i.kind <> 'held'
), no_sequence AS MATERIALIZED (
    SELECT a.asset FROM ingestion.assets a WHERE NOT a.sequential_ids
)
SELECT i.asset, lower(r.ids), coalesce(upper(r.ids) - 1, 9223372036854775807)
  FROM ingestion.id_sets i CROSS JOIN LATERAL unnest(i.ids) AS r (ids)
 WHERE ($1::text IS NULL OR i.asset = $1)
   AND i.asset <> ALL (ARRAY(SELECT b.asset FROM by_slice b UNION ALL SELECT n.asset FROM no_sequence n))
UNION ALL
SELECT b.asset, NULL, NULL
  FROM by_slice b
 WHERE ($1 IS NULL OR b.asset = $1) AND b.asset <> ALL (ARRAY(SELECT n.asset FROM no_sequence n))
