-- Which versions are installed where.
SELECT json_build_object(
    'database', current_database(),
    'btc_ingest', (SELECT extversion FROM pg_extension WHERE extname = 'btc_ingest'),
    'timescaledb', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')
)::text
