-- What loads waiting objects: workers of this database, and jobs that sweep, with the longest pause between two runs.
SELECT json_build_object(
    'loaders', (SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database()
                   AND backend_type IN ('btc_ingest loader', 'btc_ingest backfill')),
    'jobs', count(*),
    'pause_s', extract(epoch FROM max(j.schedule_interval))
)::text
  FROM timescaledb_information.jobs j
 WHERE (j.proc_schema, j.proc_name) = ('btc_ingest', 'run_sweep') AND j.scheduled
