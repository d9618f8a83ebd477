SELECT json_build_object(
    'preload', concat_ws(',', nullif(current_setting('shared_preload_libraries'), ''), nullif(current_setting('session_preload_libraries'), '')),
    'server_version', current_setting('server_version'),
    'server_version_num', current_setting('server_version_num')::integer,
    'license', current_setting('timescaledb.license', true),
    'restoring', coalesce(current_setting('timescaledb.restoring', true), 'off') = 'on',
    'btc_ingest_version', (SELECT extversion FROM pg_extension WHERE extname = 'btc_ingest'),
    'timescaledb_version', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    'vector_version', (SELECT extversion FROM pg_extension WHERE extname = 'vector')
)::text
