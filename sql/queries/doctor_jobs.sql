-- TimescaleDB's jobs that work on the ticks or sweep, each with the error of its last run if that run failed.
SELECT json_build_object(
    'schedulers', (SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND backend_type LIKE 'TimescaleDB%Scheduler'),
    'jobs', (SELECT coalesce(json_agg(json_build_object(
                        'job', j.job_id, 'what', format('%s.%s', j.proc_schema, j.proc_name),
                        'scheduled', j.scheduled, 'failed', s.last_run_status = 'Failed',
                        'failures', coalesce(s.total_failures, 0),
                        'overdue_s', extract(epoch FROM clock_timestamp() - s.next_start)
                                     - 3 * extract(epoch FROM j.schedule_interval),
                        'sqlstate', e.sqlerrcode, 'message', e.err_message)
                    ORDER BY j.job_id), '[]')
               FROM timescaledb_information.jobs j
               LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
               LEFT JOIN LATERAL (SELECT e.sqlerrcode, e.err_message FROM timescaledb_information.job_errors e
                                   WHERE e.job_id = j.job_id ORDER BY e.start_time DESC LIMIT 1) AS e ON true
              WHERE (j.hypertable_schema, j.hypertable_name) = ('market_data', 'btc_ticks')
                 OR (j.proc_schema, j.proc_name) = ('btc_ingest', 'run_sweep')
                 OR (j.hypertable_schema, j.hypertable_name) IN (
                        SELECT a.view_schema, a.view_name FROM timescaledb_information.continuous_aggregates a
                         WHERE (a.hypertable_schema, a.hypertable_name) = ('market_data', 'btc_ticks')))
)::text
