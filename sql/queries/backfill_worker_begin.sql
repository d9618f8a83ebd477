-- Records that this process is the worker of a slot. $1: backfill, $2: slot.
INSERT INTO ingestion.backfill_workers AS w (backfill, slot, pid, started_at)
VALUES ($1, $2, pg_backend_pid(), clock_timestamp())
ON CONFLICT (backfill, slot) DO UPDATE SET pid = excluded.pid, started_at = excluded.started_at
