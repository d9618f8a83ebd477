-- Merges the sets of trade ids of each asset into one. Sets that another session is merging stay as they are, and so do
-- those that are not committed yet: nothing waits. $1: whether the ids of assets that have lost some are gathered anew,
-- for which all of their slices are read. $2: ranges that a set may have.
WITH visible AS MATERIALIZED (
    SELECT i.asset, count(*) AS sets, bool_or(i.kind = 'lost') AS lost
      FROM ingestion.id_sets i
     -- In a transaction with one snapshot, a set that another session has merged since would be an error.
     WHERE i.kind <> 'sparse' AND current_setting('transaction_isolation') = 'read committed'
     GROUP BY i.asset
    HAVING CASE WHEN bool_or(i.kind = 'lost') THEN $1 ELSE count(*) > 1 END
), taken AS MATERIALIZED (
    SELECT i.id, i.asset, i.ids
      FROM ingestion.id_sets i
     WHERE i.kind <> 'sparse' AND i.asset IN (SELECT v.asset FROM visible v)
       FOR UPDATE SKIP LOCKED
), merged AS MATERIALIZED (
    SELECT t.asset,
           CASE WHEN v.lost
                THEN (SELECT range_agg(
                                 CASE WHEN s.missing_ids > 0 AND s.ids IS NOT NULL THEN s.ids
                                      WHEN s.last_trade_id = 9223372036854775807
                                      THEN int8multirange(int8range(s.first_trade_id, NULL))
                                      ELSE int8multirange(int8range(s.first_trade_id, s.last_trade_id + 1)) END)
                        FROM ingestion.object_slices s WHERE s.asset = t.asset)
                ELSE range_agg(t.ids) END AS ids
      FROM taken t JOIN visible v ON v.asset = t.asset
     GROUP BY t.asset, v.lost, v.sets
    -- What another session is merging may hold ids that are lost.
    HAVING NOT v.lost OR count(*) = v.sets
), gone AS (
    DELETE FROM ingestion.id_sets i USING taken t
     WHERE i.id = t.id AND t.asset IN (SELECT m.asset FROM merged m)
)
INSERT INTO ingestion.id_sets (asset, kind, ids)
SELECT m.asset, CASE WHEN s.is_sparse THEN 'sparse' ELSE 'held' END, CASE WHEN NOT s.is_sparse THEN m.ids END
  FROM merged m CROSS JOIN LATERAL (SELECT count(*) > $2 AS is_sparse FROM unnest(m.ids)) AS s
 WHERE m.ids IS NOT NULL
