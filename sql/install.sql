-- The last statements of CREATE EXTENSION: create or adopt the tables, and let the scheduler know that they are there.
SELECT btc_ingest.migrate();
SELECT btc_ingest_internal.wake_workers();
