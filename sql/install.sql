-- The last statements of CREATE EXTENSION: makes the tables, or adopts those that stand already, and says so to the scheduler.
SELECT btc_ingest.migrate();
SELECT btc_ingest_internal.wake_workers();
