-- The hypertable's dimensions, chunk interval and compression policies, beside the interval that is wanted. Other
-- statements check its indexes.
SELECT json_build_object(
    'columns', (SELECT string_agg(d.column_name, ', ' ORDER BY d.dimension_number)
                  FROM timescaledb_information.dimensions d
                 WHERE (d.hypertable_schema, d.hypertable_name) = ('market_data', 'btc_ticks')),
    'interval', c.found::text,
    'wanted', c.wanted::text,
    'as_wanted', c.found = c.wanted,
    'not_refreshed', (SELECT CASE WHEN bool_or(v.oid <> o.oid AND NOT (v.rolsuper AND o.rolsuper))
                                  THEN format('some belong to another role than the owner of the tables, %I', o.rolname)
                                  WHEN count(*) > 0 AND NOT o.rolsuper AND NOT o.rolcanlogin
                                  THEN format('the owner of the tables, %I, may not log in', o.rolname) END
                        FROM pg_class t JOIN pg_roles o ON o.oid = t.relowner
                       CROSS JOIN timescaledb_information.continuous_aggregates a
                        JOIN pg_roles v ON v.rolname = a.view_owner
                       WHERE t.oid = 'market_data.btc_ticks'::regclass
                         AND (a.hypertable_schema, a.hypertable_name) = ('market_data', 'btc_ticks')
                       GROUP BY o.oid, o.rolname, o.rolsuper, o.rolcanlogin),
    'policies', (SELECT coalesce(json_agg(json_build_object(
                            'job', j.job_id, 'scheduled', j.scheduled,
                            'foreign_owner', CASE WHEN j.owner <> o.oid
                                                   AND NOT (o.rolsuper AND coalesce(p.rolsuper, false))
                                                  THEN pg_get_userbyid(j.owner) END,
                            'after', coalesce(j.config ->> 'compress_after', j.config ->> 'compress_created_before'))
                        ORDER BY j.job_id), '[]')
                   FROM timescaledb_information.jobs j
                   JOIN pg_class t ON t.oid = 'market_data.btc_ticks'::regclass JOIN pg_roles o ON o.oid = t.relowner
                   LEFT JOIN pg_roles p ON p.oid = j.owner
                  WHERE (j.hypertable_schema, j.hypertable_name) = ('market_data', 'btc_ticks')
                    AND j.proc_name = 'policy_compression')
)::text
  FROM (SELECT (SELECT d.time_interval FROM timescaledb_information.dimensions d
                 WHERE (d.hypertable_schema, d.hypertable_name) = ('market_data', 'btc_ticks')
                   AND d.dimension_number = 1) AS found,
               coalesce(nullif(current_setting('btc_ingest.chunk_time_interval'), ''), '7 days')::interval AS wanted
       ) AS c
