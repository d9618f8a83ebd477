-- What is known of the server and the installation without the tables of btc_ingest.
SELECT json_build_object(
    'preload', concat_ws(',', nullif(current_setting('shared_preload_libraries'), ''),
                              nullif(current_setting('session_preload_libraries'), '')),
    'session_preload', current_setting('session_preload_libraries'),
    'database', current_database(),
    'wanted_is_there', EXISTS (SELECT FROM pg_database
                                WHERE datname = current_setting('btc_ingest.database', true)),
    'in_recovery', pg_is_in_recovery(),
    'is_read_only', current_setting('transaction_read_only')::boolean,
    'server_version', current_setting('server_version'),
    'server_version_num', current_setting('server_version_num')::integer,
    'worker_processes', current_setting('max_worker_processes')::integer,
    'logical_replication', current_setting('max_logical_replication_workers')::integer > 0,
    'timescaledb_schedulers', (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'TimescaleDB%Scheduler'),
    'license', current_setting('timescaledb.license', true),
    'restoring', coalesce(current_setting('timescaledb.restoring', true), 'off') = 'on',
    'btc_ingest_version', (SELECT extversion FROM pg_extension WHERE extname = 'btc_ingest'),
    'timescaledb_version', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    'vector_version', (SELECT extversion FROM pg_extension WHERE extname = 'vector')
)::text
