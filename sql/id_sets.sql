-- The trade ids that loaded objects hold, gathered per asset, so that holes are found without reading every slice. The
-- triggers of ingestion.object_slices keep ingestion.id_sets in step, also if another session than a load writes the
-- slices. They only ever add a row, so no two loads wait for each other; loads merge the rows that stand now and then
-- (sql/queries/ids_merge.sql).

-- It runs with the privileges of the owner of the tables, who may have none on this schema: it calls nothing in it.
CREATE FUNCTION btc_ingest_internal.gather_ids() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM ingestion.id_sets;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO ingestion.id_sets (asset, kind)
        SELECT DISTINCT s.asset, 'lost' FROM removed s
         WHERE NOT EXISTS (SELECT FROM ingestion.id_sets i WHERE i.asset = s.asset AND i.kind = 'sparse');
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO ingestion.id_sets (asset, kind, ids)
        SELECT s.asset, 'held', range_agg(
                   CASE WHEN s.missing_ids > 0 AND s.ids IS NOT NULL THEN s.ids
                        WHEN s.last_trade_id = 9223372036854775807
                        THEN int8multirange(int8range(s.first_trade_id, NULL))
                        ELSE int8multirange(int8range(s.first_trade_id, s.last_trade_id + 1)) END)
          FROM added s
         WHERE NOT EXISTS (SELECT FROM ingestion.id_sets i WHERE i.asset = s.asset AND i.kind = 'sparse')
         GROUP BY s.asset;
    -- Every load fires this one by its ON CONFLICT, mostly without a row.
    ELSIF EXISTS (SELECT FROM removed) THEN
        INSERT INTO ingestion.id_sets (asset, kind, ids)
        SELECT c.asset, CASE WHEN c.before <@ c.after THEN 'held' ELSE 'lost' END,
               CASE WHEN c.before <@ c.after THEN c.after END
          FROM (SELECT s.asset, coalesce(range_agg(s.held) FILTER (WHERE s.is_old), '{}') AS before,
                       coalesce(range_agg(s.held) FILTER (WHERE NOT s.is_old), '{}') AS after
                  FROM (SELECT v.asset, v.is_old,
                               CASE WHEN v.missing_ids > 0 AND v.ids IS NOT NULL THEN v.ids
                                    WHEN v.last_trade_id = 9223372036854775807
                                    THEN int8multirange(int8range(v.first_trade_id, NULL))
                                    ELSE int8multirange(int8range(v.first_trade_id, v.last_trade_id + 1)) END AS held
                          FROM (SELECT r.asset, true AS is_old, r.missing_ids, r.ids, r.first_trade_id, r.last_trade_id
                                  FROM removed r
                                UNION ALL
                                SELECT a.asset, false, a.missing_ids, a.ids, a.first_trade_id, a.last_trade_id
                                  FROM added a) AS v) AS s
                 GROUP BY s.asset) AS c
         WHERE c.before <> c.after
           AND NOT EXISTS (SELECT FROM ingestion.id_sets i WHERE i.asset = c.asset AND i.kind = 'sparse');
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.gather_ids() IS
    'Trigger of ingestion.object_slices: adds the trade ids of new slices to ingestion.id_sets, and notes which assets '
    'have lost some';

-- The triggers wait for all writers of the slices. So the sets that follow hold what was written without them.
CREATE FUNCTION btc_ingest_internal.make_id_sets() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    made boolean := false;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('slices_added', 'INSERT', 'REFERENCING NEW TABLE AS added'),
            ('slices_changed', 'UPDATE', 'REFERENCING OLD TABLE AS removed NEW TABLE AS added'),
            ('slices_removed', 'DELETE', 'REFERENCING OLD TABLE AS removed'),
            ('slices_truncated', 'TRUNCATE', '')) AS t (name, event, referencing)
         WHERE NOT EXISTS (SELECT FROM pg_trigger g
                            WHERE g.tgrelid = 'ingestion.object_slices'::regclass AND g.tgname = t.name)
    LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON ingestion.object_slices %s
                            FOR EACH STATEMENT EXECUTE FUNCTION btc_ingest_internal.gather_ids()',
                       item.name, item.event, item.referencing);
        EXECUTE format('ALTER TRIGGER %I ON ingestion.object_slices DEPENDS ON EXTENSION btc_ingest', item.name);
        made := true;
    END LOOP;
    IF made THEN
        DELETE FROM ingestion.id_sets;
        INSERT INTO ingestion.id_sets (asset, kind, ids)
        SELECT s.asset, 'held', range_agg(
                   CASE WHEN s.missing_ids > 0 AND s.ids IS NOT NULL THEN s.ids
                        WHEN s.last_trade_id = 9223372036854775807
                        THEN int8multirange(int8range(s.first_trade_id, NULL))
                        ELSE int8multirange(int8range(s.first_trade_id, s.last_trade_id + 1)) END)
          FROM ingestion.object_slices s GROUP BY s.asset;
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.make_id_sets() IS
    'Part of migrate(): makes the triggers that keep ingestion.id_sets in step. If one was missing, the sets are '
    'gathered anew';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest_internal FROM PUBLIC;
