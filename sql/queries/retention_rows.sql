-- The rows of ops.retention_jobs, and whether TimescaleDB's edition has jobs.
SELECT json_build_object(
    'community', coalesce(current_setting('timescaledb.license', true) = 'timescale', false),
    'rows', (SELECT coalesce(json_agg(json_build_object('job', r.job_name, 'hypertable', r.hypertable,
                                                        'policy', r.policy::text,
                                                        'enabled', coalesce(r.enabled, false),
                                                        'compresses', coalesce(r.policy ? 'compress_after', false),
                                                        'drops', coalesce(r.policy ? 'drop_after', false)
                                                                 AND replace(r.hypertable, '"', '')
                                                                     = 'market_data.btc_ticks')
                                      ORDER BY r.job_name), '[]')
               FROM ops.retention_jobs r)
)::text
