-- Advisory locks for the extension's own SQL. The library takes them, so that one module defines the keys of all locks.

CREATE FUNCTION btc_ingest_internal.take_migration_lock() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'take_migration_lock_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.take_migration_lock() IS
    'Waits until no other session runs migrate(), and holds off other sessions until the transaction ends';

CREATE FUNCTION btc_ingest_internal.backfill_worker_is_alive(backfill bigint, slot integer, pid integer) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'backfill_worker_is_alive_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.backfill_worker_is_alive(bigint, integer, integer) IS
    'Returns whether the process with this pid holds this worker slot of the backfill';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest_internal.backfill_worker_is_alive(bigint, integer, integer)
TO btc_ingest_reader, btc_ingest_monitor;
