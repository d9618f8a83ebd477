-- The last statement of CREATE EXTENSION: makes the tables, or adopts those that stand already.
SELECT btc_ingest.migrate();
