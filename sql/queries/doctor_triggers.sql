-- The statements that mend our triggers; null if all are there and enabled. Without those of the registry, no row is
-- checked and no worker wakes; they fire also for replicated rows. Without those of the slices, ingestion.id_sets is
-- not kept in step: migrate() makes them again, and gathers the sets anew.
SELECT to_json(string_agg(DISTINCT
                   CASE WHEN t.oid IS NULL THEN 'SELECT btc_ingest.migrate();'
                        WHEN w.rel = 'landing.raw_blobs_5m'
                        THEN format('ALTER TABLE landing.raw_blobs_5m ENABLE ALWAYS TRIGGER %I;', w.name)
                        ELSE format('DROP TRIGGER %I ON %s; SELECT btc_ingest.migrate();', w.name, w.rel) END,
                          ' '))::text
  FROM (VALUES ('landing.raw_blobs_5m', 'registry_pending', 'A'), ('landing.raw_blobs_5m', 'registry_wake', 'A'),
               ('ingestion.object_slices', 'slices_added', 'O'), ('ingestion.object_slices', 'slices_changed', 'O'),
               ('ingestion.object_slices', 'slices_removed', 'O'), ('ingestion.object_slices', 'slices_truncated', 'O')
       ) AS w (rel, name, enabled)
  LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass(w.rel) AND t.tgname = w.name AND NOT t.tgisinternal
 WHERE t.oid IS NULL OR (t.tgenabled <> 'A' AND t.tgenabled <> w.enabled::"char")
