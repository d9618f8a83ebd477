-- The hypertable's dimensions, chunk interval and policies, beside the interval that is wanted. Other statements
-- check its indexes.
SELECT json_build_object(
    'columns', (SELECT string_agg(d.column_name, ', ' ORDER BY d.dimension_number)
                  FROM timescaledb_information.dimensions d
                 WHERE (d.hypertable_schema, d.hypertable_name) = ('market_data', 'btc_ticks')),
    'interval', c.found::text,
    'wanted', c.wanted::text,
    'as_wanted', c.found = c.wanted,
    'policies', (SELECT coalesce(json_agg(json_build_object(
                            'kind', j.proc_name, 'job', j.job_id, 'scheduled', j.scheduled,
                            'after', coalesce(j.config ->> 'drop_after', j.config ->> 'drop_created_before',
                                              j.config ->> 'compress_after', j.config ->> 'compress_created_before'))
                        ORDER BY j.job_id), '[]')
                   FROM timescaledb_information.jobs j
                  WHERE (j.hypertable_schema, j.hypertable_name) = ('market_data', 'btc_ticks')
                    AND j.proc_name IN ('policy_compression', 'policy_retention'))
)::text
  FROM (SELECT (SELECT d.time_interval FROM timescaledb_information.dimensions d
                 WHERE (d.hypertable_schema, d.hypertable_name) = ('market_data', 'btc_ticks')
                   AND d.dimension_number = 1) AS found,
               coalesce(nullif(current_setting('btc_ingest.chunk_time_interval'), ''), '7 days')::interval AS wanted
       ) AS c
