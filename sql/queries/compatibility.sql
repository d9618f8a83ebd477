-- The installed versions, and whether every session has TimescaleDB's library.
SELECT json_build_object(
    'database', current_database(),
    'btc_ingest', (SELECT extversion FROM pg_extension WHERE extname = 'btc_ingest'),
    'timescaledb', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    'timescaledb_preloaded', current_setting('shared_preload_libraries') ~ '\mtimescaledb\M'
)::text
