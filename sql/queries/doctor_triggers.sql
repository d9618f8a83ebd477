-- The statements that mend the registry's triggers, without which no row is checked and no worker wakes; null if both
-- triggers are there and enabled, also for replicated rows.
SELECT to_json(string_agg(DISTINCT CASE WHEN t.oid IS NULL THEN 'SELECT btc_ingest.migrate();'
                               ELSE format('ALTER TABLE landing.raw_blobs_5m ENABLE ALWAYS TRIGGER %I;', w.name) END,
                          ' '))::text
  FROM (VALUES ('registry_pending'), ('registry_wake')) AS w (name)
  LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass('landing.raw_blobs_5m') AND t.tgname = w.name
                        AND NOT t.tgisinternal
 WHERE t.oid IS NULL OR t.tgenabled <> 'A'
